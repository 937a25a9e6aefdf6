"""Whole batches are the same images as samples one by one, whatever collates them."""

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.runner import Runner
from torch.utils.data import Subset
from torch.utils.data import default_collate as torch_collate

from mmsagan.datasets import CIFAR10, ArrayDataset, ReadyBatch, collate_batch
from mmsagan.datasets.transforms import whole_batch_flip
from mmsagan.engine.config import complete_loader, load_config
from mmsagan.registry import DATASETS, TRANSFORMS

PACK = dict(type='PackInputs')
PIPELINES = [[PACK], [dict(type='RandomFlip', prob=0.5), PACK], [dict(type='RandomFlip', prob=0.3), PACK]]
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
    """So a training does not depend on the way its images come, with mmcv's RandomFlip as the reference."""
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


def test_the_images_are_those_of_the_file(cifar_root, cifar_arrays):
    batch = CIFAR10(data_root=str(cifar_root), pipeline=[PACK]).__getitems__([3, 50])
    assert np.array_equal(batch.inputs.numpy(), cifar_arrays[0][[3, 50]].transpose(0, 3, 1, 2))
    assert batch.labels.tolist() == cifar_arrays[1][[3, 50]].tolist()


@pytest.mark.parametrize('collate', [default_collate, torch_collate, collate_batch])
def test_any_collate_function_takes_them(make, collate):
    dataset = make([PACK])
    assert_equal(collate(dataset.__getitems__(INDICES)), one_by_one(dataset, INDICES))


def test_pseudo_collate_makes_lists(make):
    dataset = make([PACK])
    lists, expected = pseudo_collate(dataset.__getitems__(INDICES)), one_by_one(dataset, INDICES)
    assert_equal(dict(inputs=torch.stack(lists['inputs']), labels=torch.tensor(lists['labels'])), expected)


def test_collate_batch_copies_nothing_and_stacks_samples():
    batch = ReadyBatch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([1, 0]))
    assert collate_batch(batch)['inputs'] is batch.inputs
    assert_equal(collate_batch([batch[0], batch[1]]), dict(inputs=batch.inputs, labels=batch.labels))
    assert [sample['labels'] for sample in batch] == [1, 0] and len(batch) == 2


@pytest.mark.parametrize(
    'pipeline',
    [
        [dict(type='Darken'), PACK],
        [dict(type='RandomFlip', prob=0.5, direction='vertical'), PACK],
        [dict(type='RandomFlip', prob=[0.2, 0.3], direction=['horizontal', 'vertical']), PACK],
        [dict(type='RandomFlip', prob=0.5), dict(type='RandomFlip', prob=0.5), PACK],
        [dict(type='Resize', scale=(16, 16)), PACK],
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
    """Neither in place nor through the tensors of a sample or a batch."""
    dataset, plain = make([dict(type='Darken'), PACK]), make([PACK])
    before = plain[3]['inputs'].clone()
    assert torch.equal(dataset[3]['inputs'], before // 2) and torch.equal(dataset[3]['inputs'], before // 2)
    plain[3]['inputs'].zero_()
    plain.__getitems__([3, 4]).inputs.zero_()
    assert torch.equal(plain[3]['inputs'], before) and before.any()


def test_subsets_and_lazy_data_sets(make):
    whole = make([PACK])
    for subset, numbers in (
        (make([PACK], indices=10), range(10)),
        (make([PACK], indices=[7, 3, 9]), [7, 3, 9]),
        (whole.get_subset(-5), range(95, 100)),
        (make([PACK], lazy_init=True), range(100)),
        (make([PACK], serialize_data=True), range(100)),
        (Subset(whole, [4, 2]), [4, 2]),
    ):
        assert_equal(collate_batch(subset.__getitems__([0, 1, -1])), one_by_one(whole, [numbers[0], numbers[1], numbers[-1]]))
        assert len(subset) == len(numbers)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_loader_as_a_config_describes_it(cifar_root, num_workers):
    """The same batches as by mmengine's default_collate from samples, in the loader's process and in another one."""
    batches = []
    for whole in (True, False):
        dataset = CIFAR10(data_root=str(cifar_root), pipeline=PIPELINES[1])
        config = dict(
            dataset=dataset if whole else Samples(dataset),
            batch_size=8,
            num_workers=num_workers,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='mmsagan.collate_batch' if whole else 'default_collate'),
        )
        np.random.seed(0)
        batches.append([batch for batch, _ in zip(Runner.build_dataloader(config, seed=3), range(4))])
    for batch, expected in zip(*batches):
        assert_equal(batch, expected)


@pytest.mark.parametrize('base, flips', [('cifar10_nopad', True), ('cifar10_noaug', False), ('mnist', False)])
def test_the_shipped_configs_load_whole_batches(cifar_root, base, flips):
    """Each image flipped or not by its own chance, and nothing else done to it."""
    config = complete_loader(load_config(f'configs/_base_/datasets/{base}.py'), 'train')
    if base != 'mnist':
        config['dataset']['data_root'] = str(cifar_root)
    config = dict(config, num_workers=0, persistent_workers=False, pin_memory=False)
    loader, other = (Runner.build_dataloader(config, seed=3) for _ in range(2))
    assert loader.collate_fn.func is collate_batch
    assert isinstance(loader.dataset.__getitems__([0, 1]), ReadyBatch)
    plain = loader.dataset.read_images(range(len(loader.dataset)))
    order, flipped = iter(other.sampler), []
    for batch, _ in zip(loader, range(10)):
        for image, label in zip(batch['inputs'].numpy(), batch['labels']):
            index = next(order)
            flipped.append(not np.array_equal(image, plain[index]))
            assert np.array_equal(image, plain[index][..., ::-1] if flipped[-1] else plain[index])
            assert label == loader.dataset.labels[index]
    assert len(flipped) == 640 and (240 < sum(flipped) < 400 if flips else not any(flipped)), '6 standard deviations'


def test_fashion_mnist_takes_them_too():
    """Its images are not on every machine; its config inherits the loader and states the flips."""
    config = complete_loader(load_config('configs/_base_/datasets/fashion_mnist.py'), 'train')
    assert config['collate_fn'] == dict(type='mmsagan.collate_batch')
    assert whole_batch_flip(Compose(config['dataset']['pipeline']).transforms) == 0.5


class Samples(torch.utils.data.Dataset):
    """A data set without whole batches."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


def test_out_of_range():
    with pytest.raises(IndexError):
        DATASETS.build(dict(type=Grey, pipeline=[PACK])).__getitems__([100])
