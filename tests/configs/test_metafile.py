"""The zoo's files against the published tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmsagan.apis import evaluate_from_config, train_from_config
from mmsagan.apis.experiment import use_mixed_precision
from mmsagan.engine.config import check_config, complete_evaluation, is_evaluation_only, load_config
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS

ROOT = Path(__file__).parent.parent.parent
METAFILE = yaml.safe_load((ROOT / 'configs/sagan/metafile.yml').read_text())
MODELS_BY_NAME = {entry['Name']: entry for entry in METAFILE['Models']}

C32, C128 = 'woReLUinplace_cifar10_b64x1', 'woReLUinplace_imagenet1k_b64x4'
BIGGAN = 'woReLUinplace_noaug_bigGAN_imagenet1k_b32x8'
WEIGHTS_32, WEIGHTS_128 = 'sagan_cifar10_32_lr2e-4_ndisc5_b64x1', 'sagan_imagenet1k_128_Glr1e-4_Dlr4e-4_ndisc1_b32x4'
BIGGAN_FILE = f'sagan_128_{BIGGAN}_Glr1e-4_Dlr-4e-4_ndisc1_20210818_210232-3f5686af'

# The published table: name, data, in-place ReLU, dist_step, batch, iterations, those of the checkpoint, IS, FID, weights, log.
ROWS = [
    (f'sagan_32_{C32}_best-IS', 'CIFAR10', False, 5, '64x1', 500_000, 400_000, 9.3217, 10.5030,
     f'{WEIGHTS_32}_woReUinplace_is-iter400000_20210730_125743-4008a9ca',
     f'{WEIGHTS_32}_woReUinplace_20210730_125449_fid-d50568a4_is-04008a9ca'),
    (f'sagan_32_{C32}_best-FID', 'CIFAR10', False, 5, '64x1', 500_000, 480_000, 9.3174, 9.4252,
     f'{WEIGHTS_32}_woReUinplace_fid-iter480000_20210730_125449-d50568a4',
     f'{WEIGHTS_32}_woReUinplace_20210730_125449_fid-d50568a4_is-04008a9ca'),
    ('sagan_32_wReLUinplace_cifar10_b64x1_best-IS', 'CIFAR10', True, 5, '64x1', 500_000, 380_000, 9.2286, 11.7760,
     f'{WEIGHTS_32}_wReLUinplace_is-iter380000_20210730_124937-c77b4d25',
     f'{WEIGHTS_32}_wReLUinplace_20210730_125155_fid-cbefb354_is-c77b4d25'),
    ('sagan_32_wReLUinplace_cifar10_b64x1_best-FID', 'CIFAR10', True, 5, '64x1', 500_000, 460_000, 9.2061, 10.7781,
     f'{WEIGHTS_32}_wReLUinplace_fid-iter460000_20210730_125155-cbefb354',
     f'{WEIGHTS_32}_wReLUinplace_20210730_125155_fid-cbefb354_is-c77b4d25'),
    (f'sagan_128_{C128}_best-IS', 'ImageNet', False, 1, '64x4', 1_000_000, 980_000, 31.5938, 36.7712,
     f'{WEIGHTS_128}_woReLUinplace_is-iter980000_20210730_163140-cfbebfc6',
     f'{WEIGHTS_128}_woReLUinplace_20210730_163431_fid-d7916963_is-cfbebfc6'),
    (f'sagan_128_{C128}_best-FID', 'ImageNet', False, 1, '64x4', 1_000_000, 950_000, 28.4936, 34.7838,
     f'{WEIGHTS_128}_woReLUinplace_fid-iter950000_20210730_163431-d7916963',
     f'{WEIGHTS_128}_woReLUinplace_20210730_163431_fid-d7916963_is-cfbebfc6'),
    (f'sagan_128_{BIGGAN}_best-IS', 'ImageNet', False, 1, '32x8', 1_000_000, 826_000, 69.5350, 12.8295,
     BIGGAN_FILE, BIGGAN_FILE),
    (f'sagan_128_{BIGGAN}_best-FID', 'ImageNet', False, 1, '32x8', 1_000_000, 826_000, 69.5350, 12.8295,
     BIGGAN_FILE, BIGGAN_FILE),
]  # fmt: skip
# StudioGAN's: name, data, dist_step, iterations, IS and FID by our pipeline and by StudioGAN's, weights.
CONVERTED = [
    ('sagan_32_cvt_studioGAN', 'CIFAR10', 5, 100_000, (9.116, 10.2011, 8.680, 14.009),
     'sagan_32_cifar10_convert-studio-rgb_20210730_153321-080da7e2'),
    ('sagan_128_cvt_studioGAN', 'ImageNet', 1, 1_000_000, (27.367, 40.1162, 29.848, 34.726),
     'sagan_128_imagenet1k_convert-studio-rgb_20210730_153357-eddb0d1d'),
]  # fmt: skip


def url(name: str) -> str:
    return f'https://download.openmmlab.com/mmgen/sagan/{name}'


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0])
def test_every_row_of_the_published_table(row):
    name, data, inplace, dist_step, batch, iterations, iteration, inception_score, fid, weights, log = row
    entry = MODELS_BY_NAME[name]
    assert entry['Metadata'] == {
        'Training Data': data,
        'Inplace ReLU': inplace,
        'dist_step': dist_step,
        'Batch Size': batch,
        'Iterations': iterations,
        'Checkpoint Iteration': iteration,
        'Channel Order': 'BGR',
    }
    metrics = {'IS': inception_score, 'FID': fid}
    assert entry['Results'] == [{'Task': 'Conditional GANs', 'Dataset': data, 'Metrics': metrics}]
    assert (entry['Weights'], entry['Training Log']) == (url(f'{weights}.pth'), url(f'{log}.json'))


@pytest.mark.parametrize('row', CONVERTED, ids=lambda row: row[0])
def test_every_row_of_the_converted_weights(row):
    name, data, dist_step, iterations, scores, weights = row
    entry = MODELS_BY_NAME[name]
    metadata = entry['Metadata']
    assert (metadata['Training Data'], metadata['dist_step'], metadata['Iterations']) == (data, dist_step, iterations)
    assert metadata['Inplace ReLU'] and metadata['Channel Order'] == 'RGB'
    metrics = entry['Results'][0]['Metrics']
    assert tuple(metrics[key] for key in ('IS', 'FID', 'IS (StudioGAN)', 'FID (StudioGAN)')) == scores
    assert entry['Weights'] == url(f'{weights}.pth')


def test_there_are_no_other_entries():
    assert sorted(entry['Name'] for entry in METAFILE['Models']) == sorted(row[0] for row in [*ROWS, *CONVERTED])
    assert {entry['In Collection'] for entry in METAFILE['Models']} == {'SAGAN'}
    collection = METAFILE['Collections'][0]
    assert collection['Name'] == 'SAGAN' and (ROOT / collection['README']).is_file()
    assert yaml.safe_load((ROOT / 'model-index.yml').read_text()) == {'Import': ['configs/sagan/metafile.yml']}


@pytest.mark.parametrize('entry', METAFILE['Models'], ids=lambda entry: entry['Name'])
def test_the_config_of_an_entry_is_of_its_run(entry):
    assert entry['Name'].startswith(Path(entry['Config']).stem)
    cfg, metadata = load_config(ROOT / entry['Config']), entry['Metadata']
    assert cfg.train_dataloader.dataset.type == metadata['Training Data']
    assert cfg.model.discriminator_steps == metadata['dist_step']
    assert cfg.model.generator.act_cfg.inplace == cfg.model.discriminator.act_cfg.inplace == metadata['Inplace ReLU']
    if 'Batch Size' in metadata:
        assert cfg.train_cfg.max_iters == metadata['Iterations'] >= metadata['Checkpoint Iteration']
        assert f'{cfg.train_dataloader.batch_size}x' in metadata['Batch Size']


@pytest.mark.parametrize('row', [*ROWS, *CONVERTED], ids=lambda row: row[0])
def test_the_model_page_has_every_row(row):
    entry = MODELS_BY_NAME[row[0]]
    line = next(line for line in (ROOT / 'configs/sagan/README.md').read_text().splitlines() if entry['Weights'] in line)
    cells = [cell.strip() for cell in line.split('|')]
    assert all(value in [float(cell) for cell in cells if cell.replace('.', '').isdigit()] for value in row_scores(entry))
    assert entry.get('Training Log', '') in line
    if 'Checkpoint Iteration' in entry['Metadata']:
        assert f'{entry["Metadata"]["Checkpoint Iteration"]:,}'.replace(',', '\N{NO-BREAK SPACE}') in line


def row_scores(entry: dict) -> list[float]:
    return list(entry['Results'][0]['Metrics'].values())


@pytest.mark.parametrize('name', [row[0] for row in CONVERTED])
def test_converted_weights_are_evaluated_by_both_pipelines(name):
    cfg = load_config(ROOT / f'configs/sagan/{name}.py')
    assert is_evaluation_only(cfg)
    assert complete_evaluation(cfg, 'test')
    check_config(cfg, training=False)
    pipelines = [load_config(ROOT / f'configs/_base_/metrics/{base}_50k.py') for base in ('our', 'studiogan')]
    assert cfg.test_evaluator.metrics == [metric for pipeline in pipelines for metric in pipeline.test_evaluator.metrics]
    assert cfg.test_dataloader.dataset.type == ('CIFAR10' if '_32_' in name else 'ImageNet')
    assert [step.type for step in cfg.test_dataloader.dataset.pipeline if step.type == 'RandomFlip'] == []


def test_evaluating_converted_weights_needs_no_schedule(tmp_path, cifar_root, inception_file):
    """Tero Karras' Inception is a small stand-in; pytorch-fid's, which needs thousands of samples, is left out."""
    cfg = load_config(ROOT / 'configs/sagan/sagan_32_cvt_studioGAN.py')
    cfg.model.generator.base_channels = cfg.model.discriminator.base_channels = 8
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'weights.pth')
    cfg.train_dataloader.dataset.data_root = str(cifar_root)
    metrics = [dict(metric, fake_nums=20, inception_path=inception_file) for metric in cfg.test_evaluator.metrics[:2]]
    cfg.test_evaluator = dict(metrics=metrics)
    cfg.launcher, cfg.work_dir, cfg.experiment_name = 'none', str(tmp_path / 'run'), 'test-converted'
    results = evaluate_from_config(cfg, str(tmp_path / 'weights.pth'))
    assert set(results) == {'IS-50k/is', 'IS-50k/is_std', 'FID-Full-50k/fid'} and all(np.isfinite(list(results.values())))


@pytest.mark.parametrize('change', [lambda cfg: None, use_mixed_precision])
def test_training_with_a_config_for_evaluation_is_refused(tmp_path, change):
    cfg = load_config(ROOT / 'configs/sagan/sagan_32_cvt_studioGAN.py')
    cfg.launcher, cfg.work_dir = 'none', str(tmp_path / 'run')
    change(cfg)
    with pytest.raises(ConfigError, match=r'for evaluation only \(mmsagan test\)'):
        train_from_config(cfg)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('key', ['train_cfg', 'optim_wrapper'])
def test_half_a_training_is_not_taken_for_an_evaluation(key):
    """Who has forgotten the optimizers or the number of iterations is told so."""
    cfg = load_config(ROOT / 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py')
    cfg[key] = load_config(ROOT / 'configs/_base_/gen_default_runtime.py')[key]
    assert not is_evaluation_only(cfg)
