"""What docs/data.md shows does what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

from mmsagan.datasets import ImageFolder, ReadyBatch
from mmsagan.datasets.packed import pack_dataset
from mmsagan.engine.config import check_config, complete_loader, load_config
from mmsagan.errors import ConfigError
from mmsagan.evaluation import RealImages
from mmsagan.registry import DATASETS

ROOT = Path(__file__).parent.parent.parent


def snippet(word: str) -> str:
    """The page's Python block in which a word stands."""
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'data.md').read_text(), re.DOTALL)
    (block,) = (block for block in blocks if word in block)
    return block


@pytest.fixture
def leaf(tmp_path):
    """The leaf config of the page, as if it were in configs/sagan."""
    path = tmp_path / 'leaf.py'
    path.write_text(snippet('_base_').replace("'./", f"'{ROOT}/configs/sagan/"))
    return load_config(path)


def test_the_leaf_of_a_packed_data_set(tmp_path, leaf, imagenet_root):
    """Trains on random crops, in whole batches; is evaluated against the centres, without flips."""
    pack_dataset(ImageFolder(data_root=str(imagenet_root / 'train')), tmp_path / 'packed', 128, 'short-side')
    check_config(leaf)
    train, val = (complete_loader(leaf, mode) for mode in ('train', 'val'))
    assert leaf.model.data_preprocessor.flip_prob == 0.5 and train['collate_fn'] == dict(type='mmsagan.collate_batch')
    for loader, crop in ((train, 'random'), (val, 'center')):
        loader['dataset']['data_root'] = str(tmp_path / 'packed')
        dataset = DATASETS.build(loader['dataset'])
        assert isinstance(dataset.__getitems__([0, 5]), ReadyBatch) and dataset.crop == crop
        assert dataset[0]['inputs'].shape == (3, 128, 128)
    unpacked = load_config(ROOT / 'configs/sagan/sagan_128_woReLUinplace_imagenet1k_b64x4.py')
    assert leaf.val_evaluator.inception_pkl != unpacked.val_evaluator.inception_pkl
    other = RealImages(complete_loader(unpacked, 'val')['dataset'])
    assert RealImages(val['dataset']).content != other.content, 'the statistics of one are refused for the other'


def test_transforms_that_decode_are_refused(tmp_path, leaf, imagenet_root):
    pack_dataset(ImageFolder(data_root=str(imagenet_root / 'train')), tmp_path / 'packed', 8)
    config = complete_loader(leaf, 'val')['dataset']
    config.update(data_root=str(tmp_path / 'packed'), pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    with pytest.raises(ConfigError, match='decoded, cropped and resized already'):
        DATASETS.build(config)


def test_a_data_set_of_ones_own(tmp_path, monkeypatch):
    """The module of the page, built by its name."""
    (tmp_path / 'my_data.py').write_text(snippet('ArrayDataset'))
    monkeypatch.syspath_prepend(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / 'mine.npz', images=images, labels=np.arange(6) % 2)
    try:
        __import__('my_data')
        dataset = DATASETS.build(dict(type='MyImages', data_root=str(tmp_path), pipeline=[dict(type='PackInputs')]))
    finally:
        DATASETS._module_dict.pop('MyImages', None)
    batch = dataset.__getitems__([3, 0])
    assert np.array_equal(batch.inputs[:, 1], images[[3, 0]]) and batch.labels.tolist() == [1, 0]
    assert dataset.metainfo['classes'] == ('cat', 'dog')


def test_the_estimate_of_a_size(imagenet_root, capsys):
    """Of rectangles, from the shapes of the images: the file's size, but for its header and rounding."""
    code = snippet('random.Random').replace('data/imagenet/train', str(imagenet_root / 'train')).replace('2000', '18')
    exec(code.replace('/ 1e9:.1f} GB', ':.0f} bytes'), {})
    estimate = float(capsys.readouterr().out.split()[-2])
    sizes = [(140 + 10 * index, 180 - 10 * index) for index in range(6)] * 3
    exact = sum(3 * 128 * round(128 * max(size) / min(size)) for size in sizes)
    assert estimate == pytest.approx(exact, rel=0.005)
