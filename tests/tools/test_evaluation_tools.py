"""The evaluation tools as a user types them; the commands of the published page among them."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_train_tool import CONFIG, run, small

from mmsagan.engine.config import load_config
from mmsagan.evaluation import load_statistics
from mmsagan.registry import MODELS

pytestmark = pytest.mark.slow

DIGITS = ['--inception-style', 'digits']


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Two folders of coloured noise, of 90 and 80 images, and one of mixed sizes."""
    root = tmp_path_factory.mktemp('folders')
    random = np.random.RandomState(0)
    for name, count in (('fake', 90), ('real', 80), ('mixed', 3)):
        (root / name).mkdir()
        for index in range(count):
            size = 32 if name != 'mixed' else 30 + index
            pixels = random.randint(256, size=(size, size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f'{index}.png')
    return root


@pytest.mark.parametrize(
    'data_cfg, name, count',
    [
        ('configs/_base_/datasets/cifar10_inception_stat.py', 'cifar10.pkl', 100),
        ('configs/_base_/datasets/imagenet_128x128_inception_stat.py', 'imagenet.pkl', 18),
    ],
)
def test_the_published_commands(tmp_path, cifar_root, imagenet_root, inception_file, data_cfg, name, count):
    """As they are written there, in a folder with the data in data/; the Inception file is a stand-in."""
    for part in ('configs', 'tools', 'mmsagan'):
        (tmp_path / part).symlink_to(Path.cwd() / part)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'cifar10').symlink_to(cifar_root / 'cifar10')
    (tmp_path / 'data' / 'imagenet').symlink_to(imagenet_root)
    arguments = (
        f'--data-cfg {data_cfg} --pklname {name} --no-shuffle --inception-style stylegan --num-samples -1 --subset train'
    )
    result = run(*arguments.split(), '--inception-pth', inception_file, tool='tools/utils/inception_stat.py', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    path = tmp_path / 'work_dirs' / 'inception_pkl' / name
    content = pickle.loads(path.read_bytes())
    assert content['size'] == count and content['real_cov'].shape == (6, 6)
    np.testing.assert_array_equal(load_statistics(path.with_suffix('.npz')).mean, content['mean'])


def test_statistics_of_a_folder(tmp_path, folders):
    arguments = ['--imgsdir', folders / 'real', '--pkl-dir', tmp_path, '--num-samples', 70, '--seed', 4, '--batch-size', 9]
    result = run(*arguments, *DIGITS, tool='tools/utils/inception_stat.py')
    assert result.returncode == 0, result.stderr
    statistics = load_statistics(tmp_path / 'real.pkl')
    assert statistics.size == 70 and statistics.extractor == 'digits' and str(tmp_path / 'real.npz') in result.stdout


def test_evaluate_images(tmp_path, folders):
    arguments = [folders / 'fake', '--real', folders / 'real', '--metrics', 'fid', 'is', 'kid', 'pr', *DIGITS]
    result = run(*arguments, '--out', tmp_path / 'out.json', tool='tools/evaluate_images.py')
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / 'out.json').read_text())
    assert len(results) == 9 and all(name in result.stdout for name in results)

    run(
        '--imgsdir', folders / 'real', '--pkl-dir', tmp_path, '--num-samples', -1, *DIGITS, tool='tools/utils/inception_stat.py'
    )
    for suffix in ('pkl', 'npz'):
        arguments = [folders / 'fake', '--real', tmp_path / f'real.{suffix}', '--metrics', 'fid', *DIGITS]
        result = run(*arguments, '--out', tmp_path / 'out.json', tool='tools/evaluate_images.py')
        assert result.returncode == 0, result.stderr
        fid = json.loads((tmp_path / 'out.json').read_text())['FID-digits/fid']
        assert fid == pytest.approx(results['FID-digits/fid'], rel=1e-6)


@pytest.mark.parametrize(
    'tool, arguments, message',
    [
        ('evaluate_images', ['{fake}'], 'Give --real'),
        ('evaluate_images', ['{fake}', '--real', '{mixed}', *DIGITS], 'mixed sizes'),
        ('evaluate_images', ['{gone}', '--real', '{real}'], 'not a folder'),
        ('evaluate_images', ['{fake}', '--real', '{gone}.npz'], 'does not exist'),
        ('evaluate_images', ['{fake}', '--real', '{gone}.npz', '--metrics', 'kid'], 'needs the real images themselves'),
        ('evaluate_images', ['{fake}', '--real', '{real}', '--num-samples', '64', *DIGITS], 'take at least 65'),
        ('evaluate_images', ['{fake}', '--real', '{real}', '--num-samples', '900', *DIGITS], 'has 90'),
        ('evaluate_images', ['{fake}', '--real', '{real}', '--inception-pth', '{gone}.pt'], 'does not exist'),
        ('utils/inception_stat', ['--imgsdir', '{real}', '--pklname', 'a.txt'], 'must end with .pkl'),
        ('utils/inception_stat', ['--imgsdir', '{real}', '--num-samples', '81', *DIGITS], 'has 80 images'),
        ('utils/inception_stat', ['--data-cfg', 'configs/_base_/gen_default_runtime.py'], 'no test_dataloader with a dataset'),
    ],
)
def test_wrong_input_gives_one_message(folders, tool, arguments, message):
    places = {name: folders / name for name in ('fake', 'real', 'mixed', 'gone')}
    result = run(*(argument.format(**places) for argument in arguments), tool=f'tools/{tool}.py')
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert result.stderr.splitlines()[-1].startswith('error: ') and message in result.stderr.splitlines()[-1]


def test_numbers_that_make_no_sense(folders):
    result = run(folders / 'fake', '--batch-size', 0, tool='tools/evaluate_images.py')
    assert result.returncode == 2 and 'argument --batch-size: must be at least 1, got 0' in result.stderr


def test_train_then_test(tmp_path, cifar_root, inception_file):
    """Our pipeline with the stand-in, from the published config; training's last numbers and those of tools/test.py agree."""
    options = small(cifar_root)
    for mode in ('val', 'test'):
        for number in (0, 1):
            metric = f'{mode}_evaluator.metrics.{number}'
            options += [f'{metric}.fake_nums=30', f'{metric}.inception_path={inception_file}']
        options += [f'{mode}_evaluator.inception_pkl={tmp_path}/real.pkl', f'{mode}_dataloader.num_workers=0']
    trained = run(CONFIG, '--work-dir', tmp_path / 'run', *options, 'train_cfg.val_interval=2')
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / 'real.pkl').is_file() and len(list((tmp_path / 'run').glob('best_*_iter_2.pth'))) == 2
    (tmp_path / 'elsewhere').mkdir()
    shutil.move(tmp_path / 'run' / 'iter_2.pth', tmp_path / 'elsewhere' / 'model.pth')
    arguments = [
        CONFIG,
        tmp_path / 'elsewhere' / 'model.pth',
        '--out',
        tmp_path / 'out' / 'metrics.json',
        '--work-dir',
        tmp_path / 'test',
    ]
    tested = run(*arguments, *options, tool='tools/test.py')
    assert tested.returncode == 0, tested.stderr
    results = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert list(results) == ['IS-50k/is', 'IS-50k/is_std', 'FID-Full-50k/fid']
    for name, value in results.items():
        line = f'{name:<18}{value:>12.4f}'.split()
        assert ' '.join(line) in ' '.join(trained.stdout.split()) and ' '.join(line) in ' '.join(tested.stdout.split())


def test_test_with_wrong_files(tmp_path, cifar_root):
    options = small(cifar_root)
    result = run(CONFIG, tmp_path / 'gone.pth', *options, tool='tools/test.py')
    assert result.returncode == 2 and 'gone.pth' in result.stderr.splitlines()[-1]
    model = MODELS.build(
        load_config(CONFIG, {'model.generator.base_channels': 16, 'model.discriminator.base_channels': 8}).model
    )
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'other.pth')
    result = run(CONFIG, tmp_path / 'other.pth', '--work-dir', tmp_path / 'test', *options, tool='tools/test.py')
    assert result.returncode == 2 and 'of another architecture' in result.stderr.splitlines()[-1]
    assert not (tmp_path / 'test').exists()
