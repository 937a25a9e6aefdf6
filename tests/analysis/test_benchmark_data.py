"""Reading data on both sides: the images that are chosen, and what comes out at the end."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.analysis.benchmarks import data
from mmsagan.analysis.benchmarks.data import choose_images, data_workload, make_photographs
from mmsagan.analysis.benchmarks.sides import Setup
from mmsagan.datasets import ImageFolder, PackedImages
from mmsagan.errors import ConfigError, DataError
from mmsagan.models import DataPreprocessor

CPU = Setup(torch.device('cpu'))


@pytest.fixture
def batches(monkeypatch):
    """What the data preprocessors give, in order."""
    given = []
    forward = DataPreprocessor.forward

    def noted(self, batch, training=False):
        given.append((training, forward(self, batch, training)))
        return given[-1][1]

    monkeypatch.setattr(DataPreprocessor, 'forward', noted)
    return given


def test_both_sides_read_the_images_that_were_made(tmp_path, batches):
    workload = data_workload(None, 9, 4, CPU, tmp_path)
    assert (workload.what, workload.config, workload.precision) == ('data', 'imagenet_packed_128', 'fp32')
    assert workload.images == 8, 'two whole batches of nine images'
    for side in (workload.fast, workload.reference):
        batches.clear()
        side()
        assert len(batches) == 2
        for training, batch in batches:
            assert training and batch['inputs'].shape == (4, 3, 128, 128) and batch['inputs'].dtype == torch.float32
            assert -1 <= batch['inputs'].min() < -0.5 and 0.5 < batch['inputs'].max() <= 1
            assert batch['labels'].shape == (4,) and batch['labels'].max() < 9


def test_both_sides_read_the_same_images(tmp_path, imagenet_root, batches):
    """Both crop and flip at random; the mean of an image tells it apart all the same, if it is of one colour."""
    root = tmp_path / 'colours'
    for number in range(6):
        (root / f'class_{number % 3}').mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (140 + number, 150), (40 * number, 0, 0)).save(root / f'class_{number % 3}' / f'{number}.png')
    (tmp_path / 'work').mkdir()
    workload = data_workload(str(root), None, 3, CPU, tmp_path / 'work')
    assert workload.images == 6
    seen = {}
    for side in ('fast', 'reference'):
        batches.clear()
        getattr(workload, side)()
        colours = torch.cat([batch['inputs'][:, 0].mean((1, 2)) for _, batch in batches])
        labels = torch.cat([batch['labels'] for _, batch in batches])
        seen[side] = sorted(zip(((colours + 1) * 127.5).round().int().tolist(), labels.tolist()))
    assert seen['fast'] == seen['reference'] == [(40 * number, number % 3) for number in range(6)]


def test_no_processes_load_the_data(tmp_path, monkeypatch):
    """Neither side may have help, whatever its config says."""
    built = []
    build = data.Runner.build_dataloader

    def noted(config, seed):
        built.append(build(config, seed=seed))
        return built[-1]

    monkeypatch.setattr(data.Runner, 'build_dataloader', noted)
    data_workload(None, 4, 2, CPU, tmp_path)
    assert [type(loader.dataset) for loader in built] == [PackedImages, ImageFolder]
    assert all(loader.num_workers == 0 and loader.batch_size == 2 for loader in built)
    assert hasattr(built[0].dataset, '__getitems__') and built[0].collate_fn.func.__name__ == 'collate_batch'


def test_photographs_are_like_imagenets(tmp_path):
    make_photographs(tmp_path / 'images', 12)
    paths = sorted((tmp_path / 'images').rglob('*.JPEG'))
    sizes = {Image.open(path).size for path in paths}
    assert len(paths) == 12 and sizes == {(500, 375), (375, 500)}
    assert 80_000 < np.mean([path.stat().st_size for path in paths]) < 140_000
    assert len({path.read_bytes() for path in paths}) == 12


def test_chosen_images_are_spread_over_the_folder(tmp_path, imagenet_root):
    arguments = choose_images(imagenet_root / 'train', 2, tmp_path / 'two.txt')
    two = ImageFolder(**arguments)
    assert [two.get_data_info(index)['img_path'].split('/')[-1] for index in range(2)] == [
        'n01440764_0.JPEG',
        'n01484850_5.JPEG',
    ]
    assert two.metainfo['classes'] == ('n01440764', 'n01484850'), 'classes without images are left out'
    every = ImageFolder(**choose_images(imagenet_root / 'train', 1000, tmp_path / 'all.txt'))
    assert len(every) == 18 and len({every.get_data_info(index)['img_path'] for index in range(18)}) == 18


def test_the_fast_side_alone(tmp_path):
    workload = data_workload(None, 4, 2, Setup(torch.device('cpu'), against_reference=False), tmp_path)
    assert workload.reference is None


def test_mistakes(tmp_path):
    with pytest.raises(ConfigError, match='3 images are less than a batch of 4; give another --num-samples'):
        data_workload(None, 3, 4, CPU, tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='no images'):
        data_workload(str(tmp_path / 'empty'), 3, 2, CPU, tmp_path)
