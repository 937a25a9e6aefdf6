"""The evaluation tools as a user types them; the commands of the published page among them."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_train_tool import CONFIG

from mmsagan.evaluation import load_statistics

pytestmark = pytest.mark.slow

DIGITS = ['--inception-style', 'digits']
STATISTICS = 'utils/inception_stat.py'


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('folders')
    random = np.random.RandomState(0)
    for name, count in (('fake', 90), ('real', 80), ('mixed', 3)):
        (root / name).mkdir()
        for index in range(count):
            size = 32 if name != 'mixed' else 30 + index
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


def test_evaluate_images(tmp_path, folders, run_here):
    out = tmp_path / 'out.json'
    arguments = [folders / 'fake', '--real', folders / 'real', '--metrics', 'fid', 'is', 'kid', 'pr', *DIGITS]
    code, said, errors = run_here('evaluate_images.py', *arguments, '--num-workers', 0, '--out', out)
    assert code == 0, errors
    results = json.loads(out.read_text())
    assert len(results) == 9 and all(name in said for name in results)

    options = ['--pkl-dir', tmp_path, '--num-workers', 0, *DIGITS]
    assert run_here(STATISTICS, '--imgsdir', folders / 'real', '--num-samples', -1, *options)[0] == 0
    for suffix in ('pkl', 'npz'):
        arguments = ['--real', tmp_path / f'real.{suffix}', '--metrics', 'fid', '--num-workers', 0, *DIGITS]
        assert run_here('evaluate_images.py', folders / 'fake', *arguments, '--out', out)[0] == 0
        assert json.loads(out.read_text())['FID-digits/fid'] == pytest.approx(results['FID-digits/fid'], rel=1e-6)

    arguments = ['--imgsdir', folders / 'real', '--num-samples', 70, '--seed', 4, '--batch-size', 9, *options]
    code, said, _ = run_here(STATISTICS, *arguments, '--pklname', 'some.pkl')
    statistics = load_statistics(tmp_path / 'some.pkl')
    assert code == 0 and str(tmp_path / 'some.npz') in said
    assert statistics.size == 70 and statistics.extractor == 'digits' and not statistics.whole


@pytest.mark.parametrize(
    'tool, arguments, message',
    [
        ('evaluate_images.py', ['{fake}', '--real', '{mixed}', *DIGITS], '30x30'),
        ('evaluate_images.py', ['{fake}', '--real', '{gone}.npz'], 'gone.npz'),
        (STATISTICS, ['--imgsdir', '{real}', '--num-samples', '81', *DIGITS], '80'),
        ('test.py', [CONFIG, '{gone}.pth', '--work-dir', '{gone}'], 'gone.pth'),
    ],
)
def test_wrong_input_gives_one_message(folders, run_here, tool, arguments, message):
    places = {name: folders / name for name in ('fake', 'real', 'mixed', 'gone')}
    code, _, errors = run_here(tool, *(argument.format(**places) for argument in arguments))
    assert code == 2 and 'error: ' in errors.splitlines()[-1] and message in errors.splitlines()[-1]
