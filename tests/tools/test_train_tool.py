"""The tools that train and evaluate, as a user types them; the commands of the published page among them."""

import json
import pickle
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from launching import ROOT, run_tool
from mmengine.config import Config
from PIL import Image

from mmsagan.apis.statistics import score_images
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import RealImages, load_statistics, open_images
from mmsagan.registry import METRICS

CONFIG = 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'

pytestmark = pytest.mark.slow


def run(*arguments, tool='train.py', **env):
    return run_tool(ROOT / 'tools' / tool, *arguments, **env)


def small(cifar_root, iterations=2) -> list[str]:
    return [
        *('--cfg-options', f'train_dataloader.dataset.data_root={cifar_root}', f'train_cfg.max_iters={iterations}'),
        *('train_dataloader.batch_size=4', 'train_dataloader.num_workers=1', 'default_hooks.logger.interval=1'),
        *('model.generator.base_channels=8', 'model.discriminator.base_channels=8'),
    ]


def test_train_then_resume(tmp_path, cifar_root):
    """With a component of another package, named by ``custom_imports`` alone."""
    (tmp_path / 'my_losses.py').write_text(
        'from mmsagan.models import HingeGANLoss\nfrom mmsagan.registry import MODELS\n\n\n'
        '@MODELS.register_module()\nclass MyLoss(HingeGANLoss):\n    pass\n'
    )
    (tmp_path / 'mine.py').write_text(
        f"_base_ = {str(ROOT / CONFIG)!r}\ncustom_imports = dict(imports=['my_losses'])\n"
        "model = dict(gan_loss=dict(type='MyLoss'))\n"
    )
    options, mine = ['--work-dir', tmp_path / 'run'], tmp_path / 'mine.py'
    turned_on = ['--amp', '--tf32', 'off', '--auto-scale-lr']
    first = run(mine, *options, *turned_on, *small(cifar_root), PYTHONPATH=str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert f'checkpoint: {tmp_path}/run/iter_2.pth' in first.stdout and 'mixed precision: bfloat16' in first.stdout
    # Computed the plain way and in float32 from here on, without evaluations.
    second = run(
        mine, *options, '--resume', '--no-validate', *small(cifar_root, 4), 'model.fast=False', PYTHONPATH=str(tmp_path)
    )
    assert second.returncode == 0, second.stderr
    assert 'resumed epoch: 0, iter: 2' in second.stdout and 'trained to iteration 4' in second.stdout


@pytest.mark.parametrize(
    'arguments, key',
    [
        (['configs/sagan/nothing.py'], 'nothing.py'),
        ([CONFIG, '--launcher', 'pytorch'], 'dist_train.sh'),
        ([CONFIG, '--resume', 'gone.pth'], 'gone.pth'),
        (['configs/sagan/sagan_32_cvt_studioGAN.py', '--auto-scale-lr'], 'base_batch_size'),
    ],
)
def test_wrong_input_of_a_training(tmp_path, cifar_root, arguments, key):
    result = run(*arguments, *small(cifar_root), '--work-dir', tmp_path / 'run')
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    assert result.stderr.splitlines()[-1].startswith('error: ') and key in result.stderr.splitlines()[-1]


def test_print_config():
    result = run(CONFIG, '--cfg-options', 'train_cfg.max_iters=7', tool='misc/print_config.py')
    assert result.returncode == 0 and "type='SAGANGenerator'" in result.stdout and 'max_iters=7' in result.stdout
    result = run(CONFIG, '--cfg-options', 'model.generatr.x=7', tool='misc/print_config.py')
    assert result.returncode == 2 and 'generatr' in result.stderr
    result = run('configs/sagan/sagan_32_cvt_studioGAN.py', tool='misc/print_config.py')
    assert result.returncode == 0, 'a config for evaluation only is not checked as a training'


def test_a_series_of_configs(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / f'mnist_{name}_b4.py').write_text(f"_base_ = '{ROOT}/configs/sagan/sagan_32_mnist_b32x1.py'\n")
    configs = sorted(tmp_path.glob('*.py'))
    options = ['train_cfg.val_interval=2', 'train_dataloader.batch_size=4', 'val_evaluator.metrics.0.fake_nums=20']
    options += [
        'model.generator.base_channels=8',
        'model.discriminator.base_channels=8',
        'val_evaluator.metrics.1.fake_nums=150',
    ]
    arguments = ['--work-dir', tmp_path / 'series', '--seeds', 5, '--max-iters', 2, '--jobs', 2, '--cfg-options', *options]
    result = run(*configs, *arguments, tool='misc/run_series.py', OMP_NUM_THREADS='1')
    assert result.returncode == 0, result.stderr
    table = (tmp_path / 'series/table.md').read_text()
    assert table.startswith('| at iteration 2 | FID-digits/fid, seed 5 |\n|---|---:|\n| a | ') and table in result.stdout
    values = [float(line.split('|')[2]) for line in table.splitlines()[2:]]
    assert values[0] == values[1] > 0, 'the same config with the same seed'
    assert (tmp_path / 'series/curves.png').read_bytes().startswith(b'\x89PNG')


DIGITS = ['--inception-style', 'digits']
STATISTICS = 'utils/inception_stat.py'


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('folders')
    random = np.random.RandomState(0)
    for name, count in (('fake', 90), ('real', 80), ('mixed', 3), ('large', 80)):
        (root / name).mkdir()
        for index in range(count):
            size = dict(mixed=30 + index, large=40).get(name, 32)
            pixels = random.randint(256, size=(size, size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f'{index}.png')
    return root


def test_the_published_command(tmp_path, monkeypatch, run_here, imagenet_root, inception_file):
    """In a folder with the data in data/; the Inception file is a stand-in."""
    (tmp_path / 'configs').symlink_to(Path.cwd() / 'configs')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'imagenet').symlink_to(imagenet_root)
    monkeypatch.chdir(tmp_path)
    arguments = (
        '--data-cfg configs/_base_/datasets/imagenet_128x128_inception_stat.py --pklname imagenet.pkl --no-shuffle '
        '--inception-style stylegan --num-samples -1 --subset train'
    )
    code, _, errors = run_here(STATISTICS, *arguments.split(), '--inception-pth', inception_file, '--num-workers', 0)
    assert code == 0, errors
    path = tmp_path / 'work_dirs' / 'inception_pkl' / 'imagenet.pkl'
    content = pickle.loads(path.read_bytes())
    assert content['size'] == 18 and content['real_cov'].shape == (6, 6)
    np.testing.assert_array_equal(load_statistics(path.with_suffix('.npz')).mean, content['mean'])


@pytest.mark.parametrize(
    'options, expected',
    [
        ({'inception_style': 'vgg16'}, ['IS', 'FID-50k-vgg16', 'FD-vgg16', 'PR', 'sFID']),
        (
            {'inception_style': 'pytorch', 'resize_mode': 'clean'},
            ['IS-PyTorch-clean', 'FID-50k-PyTorch-clean', 'FID-PyTorch-clean'],
        ),
        ({'extractor': {'type': 'StyleGANInception'}}, ['IS', 'FID-50k', 'FID', 'PR-inception', 'sFID']),
    ],
)
def test_another_extractor_for_a_configs_metrics(options, expected):
    """For those whose output it has; their names say so, and statistics of other features are not read."""
    fid = dict(type='FID', prefix='FID-50k', inception_style='StyleGAN', inception_pkl='a.pkl')
    metrics = [dict(type='IS'), fid, dict(type='FID'), dict(type='PR', inception_style='VGG16'), dict(type='sFID')]
    cfg = Config(dict(test_evaluator=dict(metrics=metrics)))
    runpy.run_path(str(ROOT / 'tools/test.py'))['set_extractor'](cfg, options)
    metrics = [METRICS.build(metric) for metric in cfg.test_evaluator.metrics]
    assert [metric.prefix for metric in metrics][: len(expected)] == expected
    assert metrics[1].inception_pkl == ('a.pkl' if expected[1] == 'FID-50k' else None)


@pytest.mark.parametrize('text', ['{"type"', 'nothing', '{"type": "Nothing"}'])
def test_extractors_that_there_are_not(folders, run_here, text):
    code, _, errors = run_here('evaluate_images.py', folders / 'fake', '--metrics', 'is', '--extractor', text)
    assert code == ConfigError.exit_code and text.strip('{"') in errors.replace("'", '"')


def test_the_file_of_an_extractor_that_is_given_as_json(folders, run_here):
    options = ['--extractor', '{"type": "digits"}', '--inception-pth', 'gone.pth']
    code, _, errors = run_here('evaluate_images.py', folders / 'fake', '--metrics', 'is', *options)
    assert code == DataError.exit_code and 'gone.pth' in errors


def test_evaluate_images(tmp_path, folders, run_here):
    out = tmp_path / 'out.json'
    metrics = ['fid', 'fid-infinity', 'is', 'kid', 'pr', 'authpct']
    arguments = [folders / 'fake', '--real', folders / 'real', '--metrics', *metrics, *DIGITS]
    code, said, errors = run_here('evaluate_images.py', *arguments, '--num-workers', 0, '--out', out)
    assert code == 0, errors
    results = json.loads(out.read_text())
    assert len(results) == 11 and all(name in said for name in results)

    options = ['--pkl-dir', tmp_path, '--num-workers', 0, '--extractor', '{"type": "DigitsExtractor"}']
    assert run_here(STATISTICS, '--imgsdir', folders / 'real', '--num-samples', -1, *options)[0] == 0
    for suffix in ('pkl', 'npz'):
        arguments = ['--real', tmp_path / f'real.{suffix}', '--metrics', 'fid', 'fid-infinity', '--num-workers', 0, *DIGITS]
        assert run_here('evaluate_images.py', folders / 'fake', *arguments, '--out', out)[0] == 0
        found = json.loads(out.read_text())
        assert found == pytest.approx({name: results[name] for name in found}, rel=1e-6, abs=1e-7) and len(found) == 2

    for side in ('fake', 'real'):  # of ADM's layout, with statistics that only FID uses
        arrays = [np.asarray(Image.open(path)) for path in sorted((folders / side).iterdir())]
        np.savez(tmp_path / f'{side}_images.npz', arr_0=np.stack(arrays), mu=np.zeros(64), sigma=np.eye(64))
    packed = shutil.make_archive(tmp_path / 'fake', 'zip', folders / 'fake')
    for images, real in ((packed, folders / 'real'), (tmp_path / 'fake_images.npz', tmp_path / 'real_images.npz')):
        arguments = ['--metrics', 'fid', 'pr', '--num-workers', 2, *DIGITS]
        assert run_here('evaluate_images.py', images, '--real', real, *arguments, '--out', out)[0] == 0
        found = json.loads(out.read_text())
        assert all(found[name] == pytest.approx(results[name], rel=1e-6) for name in found if 'PR' in name) and len(found) == 5
        assert (found['FID-digits/fid'] == pytest.approx(results['FID-digits/fid'], rel=1e-6)) == (images == packed)

    before = (tmp_path / 'real.pkl').read_bytes()
    for source, others, expected in (
        ('real', [], 0),
        ('fake', [], 2),
        ('real', ['--size', 24], 2),
        ('real', ['--num-samples', 70], 2),
        ('fake', ['--force'], 0),
    ):
        arguments = ['--imgsdir', folders / source, '--num-samples', -1, '--pklname', 'real.pkl', *options, *others]
        code, _, errors = run_here(STATISTICS, *arguments)
        assert code == expected and ('real.pkl' in errors and '--force' in errors) == (code == 2)
        assert ((tmp_path / 'real.pkl').read_bytes() == before) == (not others or code == 2)

    arguments = ['--imgsdir', folders / 'real', '--num-samples', 70, '--seed', 4, '--batch-size', 9, *options]
    code, said, _ = run_here(STATISTICS, *arguments, '--pklname', 'some.pkl')
    statistics = load_statistics(tmp_path / 'some.pkl')
    assert code == 0 and str(tmp_path / 'some.npz') in said
    assert statistics.size == 70 and statistics.extractor == 'digits' and not statistics.whole


def test_intra_fid_of_class_folders(tmp_path, folders):
    """Is the mean of the FIDs of the class folders alone; samples may be in folders, or have labels, by number."""
    sides = {side: [np.asarray(Image.open(path)) for path in sorted((folders / side).iterdir())] for side in ('fake', 'real')}
    for side, arrays in sides.items():
        for number, pixels in enumerate(arrays):
            for name in {f'{number % 3:02d}', 'abc'[number % 3]}:
                path = tmp_path / f'{side}_{"numbers" if name.isdecimal() else "names"}' / name / f'{number}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    np.savez(tmp_path / 'fake.npz', np.stack(sides['fake']), np.arange(90) % 3)

    def score(images, real, metric):
        sources = RealImages(open_images(tmp_path / images)), [metric], tmp_path / real
        return score_images(*sources, inception=dict(inception_style='digits'))

    alone = {name: score(f'fake_names/{name}', f'real_names/{name}', 'fid')['FID-digits/fid'] for name in 'abc'}
    for fake in ('fake_names', 'fake_numbers', 'fake.npz'):
        results = score(fake, 'real_names', 'intra-fid')
        assert results['IntraFID-digits/per_class'] == pytest.approx(alone, rel=1e-6)
        assert results['IntraFID-digits/intra_fid'] == pytest.approx(np.mean([*alone.values()]), rel=1e-6)
    (tmp_path / 'fake_names' / 'a').rename(tmp_path / 'fake_names' / 'd')
    with pytest.raises(DataError, match="'d'.*'a'"):
        score('fake_names', 'real_names', 'intra-fid')


@pytest.mark.parametrize(
    'tool, arguments, message',
    [
        ('evaluate_images.py', ['{fake}', '--real', '{mixed}', *DIGITS, '--metrics', 'kid'], '30x30'),
        ('evaluate_images.py', ['{fake}', '--real', '{large}', *DIGITS], '--size'),
        ('evaluate_images.py', ['{fake}', '--real', '{real}', '--num-samples', '91'], '90'),
        ('evaluate_images.py', ['{fake}', '--real', '{gone}.npz'], 'gone.npz'),
        ('evaluate_images.py', ['{fake}', '--real', '{real}', '--metrics', 'intra-fid', *DIGITS], 'intra-fid'),
        ('evaluate_images.py', ['{gone}', '--real', '{real}'], '.zip'),
        (STATISTICS, ['--imgsdir', '{real}', '--num-samples', '81', *DIGITS], '80'),
        ('test.py', [CONFIG, '{gone}.pth', '--work-dir', '{gone}'], 'gone.pth'),
    ],
)
def test_wrong_input_gives_one_message(folders, run_here, tool, arguments, message):
    places = {name: folders / name for name in ('fake', 'real', 'mixed', 'large', 'gone')}
    code, _, errors = run_here(tool, *(argument.format(**places) for argument in arguments))
    assert code == 2 and 'error: ' in errors.splitlines()[-1] and message in errors.splitlines()[-1]
