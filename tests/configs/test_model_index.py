"""The published models against their configs, and the series on Fashion-MNIST."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from mmsagan.engine.config import check_config, complete_evaluation, load_config
from mmsagan.engine.loops import build_evaluator
from mmsagan.errors import ConfigError
from mmsagan.evaluation import PyTorchFIDInception
from mmsagan.models import SelfAttentionBlock
from mmsagan.models.layers.spectral_norm import spectral_norm_hook
from mmsagan.registry import MODELS

ROOT = Path(__file__).parent.parent.parent
ENTRIES = yaml.safe_load((ROOT / 'configs/sagan/metafile.yml').read_text())['Models']
# Spectral norm in G and in D, attention, learning rates of G and of D.
SERIES = {
    'feat16': ((True, True), True, (2e-4, 8e-4)),
    'no-attention': ((True, True), False, (2e-4, 8e-4)),
    'sn-D': ((False, True), True, (2e-4, 8e-4)),
    'equal-lr': ((True, True), True, (4e-4, 4e-4)),
}


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['Name'])
def test_a_published_model_belongs_to_its_config(entry):
    assert entry['Name'].startswith(Path(entry['Config']).stem)
    cfg, metadata = load_config(ROOT / entry['Config']), entry['Metadata']
    assert cfg.train_dataloader.dataset.type == metadata['Training Data']
    assert cfg.model.discriminator_steps == metadata['dist_step']
    assert cfg.model.generator.act_cfg.inplace == cfg.model.discriminator.act_cfg.inplace == metadata['Inplace ReLU']
    if 'Batch Size' in metadata:
        assert cfg.train_cfg.max_iters == metadata['Iterations'] >= metadata['Checkpoint Iteration']
        assert f'{cfg.train_dataloader.batch_size}x' in metadata['Batch Size']
    assert re.fullmatch(r'https://download\.openmmlab\.com/mmgen/sagan/[\w-]+-[0-9a-f]{8}\.pth', entry['Weights'])


@pytest.mark.parametrize(
    'name, size, count, real',
    [
        ('sagan_32_cvt_studioGAN_10k', 32, 10_000, dict(type='CIFAR10', test_mode=True)),
        ('sagan_128_cvt_studioGAN_val50k', 128, 50_000, dict(type='ImageNet', ann_file='meta/val.txt', data_prefix='val')),
    ],
)
def test_converted_weights_are_evaluated_by_studiogans_protocol_too(name, size, count, real):
    cfg = load_config(ROOT / f'configs/sagan/{name}.py')
    with pytest.raises(ConfigError, match='max_iters'):
        check_config(cfg)
    assert complete_evaluation(cfg, 'test')
    check_config(cfg, training=None)
    score, fid = build_evaluator(cfg.test_evaluator).metrics
    assert score.fake_nums == fid.fake_nums == count and score.splits == 1
    assert all(metric.source.kind is PyTorchFIDInception and not metric.source.quantize for metric in (score, fid))
    assert cfg.test_evaluator.get('batch_statistics', False) == (size == 32) and cfg.test_dataloader.batch_size == 64
    stated = dict(cfg.test_dataloader.dataset, **fid.dataset)
    assert stated.items() >= real.items() and fid.real_nums == -1
    ours = load_config(ROOT / f'configs/sagan/sagan_{size}_cvt_studioGAN.py')
    assert (
        ours.model == cfg.model
        and ours.test_evaluator.metrics == load_config(ROOT / 'configs/_base_/metrics/our_50k.py').test_evaluator.metrics
    )


def test_the_series_on_few_images_adds_one_thing_at_a_time():
    configs = {path.stem.split('_')[2]: load_config(path) for path in (ROOT / 'configs/sagan_fashion_few').glob('*.py')}
    added = {name: (cfg.model.pop('augment', {}), cfg.model.pop('regularizers', {})) for name, cfg in configs.items()}
    kinds = dict(diffaugment='DiffAugment', ada='ADA')
    for name, (augment, regularizers) in added.items():
        parts = set(name.split('-')) - {'baseline'}
        assert augment.get('type') == next((kinds[part] for part in parts if part in kinds), None)
        assert set(regularizers) == parts - set(kinds)
        assert configs[name].model == configs['baseline'].model
        assert configs[name].optim_wrapper == configs['baseline'].optim_wrapper
    assert len(added) == 7


@pytest.mark.parametrize('variant', SERIES)
def test_the_series_takes_one_thing_away_at_a_time(variant):
    folder = ROOT / 'configs/sagan_fashion'
    assert len(list(folder.glob('*.py'))) == len(SERIES)
    base, cfg = (load_config(folder / f'sagan_32_{name}_fashion_b64x1.py') for name in ('feat16', variant))
    spectral_norm, attention, rates = SERIES[variant]
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    for network, has_norm in zip((model.generator, model.discriminator), spectral_norm):
        layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        assert {spectral_norm_hook(layer) is not None for layer in layers} == {has_norm}
        assert any(isinstance(module, SelfAttentionBlock) for module in network.modules()) == attention
    for network, lr in zip(('generator', 'discriminator'), rates):
        assert cfg.optim_wrapper[network].optimizer == dict(type='Adam', lr=lr, betas=(0.0, 0.9))
    for config in (base, cfg):
        for network in ('generator', 'discriminator'):
            for key in ('attention_after_nth_block', 'with_spectral_norm'):
                config.model[network].pop(key)
            config.optim_wrapper[network].optimizer.pop('lr')
    assert base.to_dict() == cfg.to_dict(), 'nothing else differs'
