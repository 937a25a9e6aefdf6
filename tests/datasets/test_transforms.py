"""Crops and packing against their formulas, and the collation of whole batches."""

import numpy as np
import pytest
import torch

from mmsagan.datasets import CenterCropLongEdge, PackInputs, RandomCropLongEdge, collate_batch
from mmsagan.datasets.transforms import ReadyBatch


@pytest.mark.parametrize('shape', [(10, 30, 3), (30, 10, 3)])
def test_center_crop(shape):
    image = np.arange(np.prod(shape)).reshape(shape)
    cropped = CenterCropLongEdge()(dict(img=image))['img']
    assert np.array_equal(cropped, image[:, 10:20] if shape[1] == 30 else image[10:20])


def test_random_crop_is_uniform_and_reaches_both_ends():
    image = np.broadcast_to(np.arange(13)[None, :, None], (10, 13, 3))
    starts = [int(RandomCropLongEdge()(dict(img=image))['img'][0, 0, 0]) for _ in range(400)]
    counts = np.bincount(starts, minlength=4)
    assert len(counts) == 4 and counts.min() > 60
    assert RandomCropLongEdge()(dict(img=image[:, :10]))['img'].shape == (10, 10, 3)


def test_packing():
    image = np.random.randint(0, 256, (4, 5, 3), dtype=np.uint8)
    packed = PackInputs()(dict(img=image[:, ::-1], gt_label=3, path='x'))
    assert set(packed) == {'inputs', 'labels'} and packed['labels'] == 3
    assert np.array_equal(packed['inputs'].numpy(), image[:, ::-1].transpose(2, 0, 1))


def test_collate_batch_copies_nothing_and_stacks_samples():
    batch = ReadyBatch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([1, 0]))
    assert collate_batch(batch)['inputs'] is batch.inputs
    stacked = collate_batch([batch[0], batch[1]])
    assert torch.equal(stacked['inputs'], batch.inputs) and torch.equal(stacked['labels'], batch.labels)
    assert [sample['labels'] for sample in batch] == [1, 0] and len(batch) == 2
