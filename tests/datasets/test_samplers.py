"""The order of images: complete, shared out, and found again at any place."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, SequentialSampler

from mmsagan.datasets import samplers
from mmsagan.datasets.samplers import BatchStream, InfiniteSampler, SeededBatch, SeededDataset
from mmsagan.errors import DataError


def first(iterable, count: int) -> list:
    return list(itertools.islice(iter(iterable), count))


def of_processes(monkeypatch, world_size: int, **options) -> list[InfiniteSampler]:
    made = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world_size))
        made.append(InfiniteSampler(**options))
    return made


@pytest.mark.parametrize('world_size', [1, 2, 3, 7])
def test_processes_share_every_pass(monkeypatch, world_size):
    size, passes = 5, 2 * 7
    shares = of_processes(monkeypatch, world_size, dataset=range(size), seed=3)
    count = size * passes // world_size
    dealt = [index for together in zip(*(first(share, count) for share in shares)) for index in together]
    orders = [tuple(dealt[start : start + size]) for start in range(0, len(dealt) - size + 1, size)]
    assert all(sorted(order) == list(range(size)) for order in orders)
    assert len(set(orders)) > 3, 'each pass has an order of its own'


def test_seeds(monkeypatch):
    runs = [first(InfiniteSampler(range(50), seed=seed), 100) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert first(InfiniteSampler(range(3), shuffle=False, seed=1), 7) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize('skipped', [0, 1, 4, 5, 23, 10**12])
@pytest.mark.parametrize('world_size', [1, 3])
def test_any_place_is_found_at_once(monkeypatch, skipped, world_size):
    for sampler in of_processes(monkeypatch, world_size, dataset=range(5), seed=0):
        sampler.start = skipped
        found = first(sampler, 12)
        if skipped < 100:
            sampler.start = 0
            assert found == first(sampler, skipped + 12)[skipped:]
        assert set(found) <= set(range(5))


@pytest.mark.parametrize('drop_last, sizes', [(False, [4, 4, 2, 4]), (True, [4, 4, 4, 4])])
def test_a_finite_sampler_is_begun_again(drop_last, sizes):
    stream = BatchStream(SequentialSampler(range(10)), 4, drop_last)
    batches = first(stream, 7)
    assert [len(batch) for batch in batches[:4]] == sizes
    for start in range(5):
        stream.start = start
        again = first(stream, 7 - start)
        assert again == batches[start:] and [batch.seed for batch in again] == [batch.seed for batch in batches[start:]]


def test_no_two_batches_have_the_same_seed():
    stream = BatchStream(InfiniteSampler(range(3), seed=0), 2, seed=5)
    seeds = [batch.seed for batch in first(stream, 50)]
    assert len(set(seeds)) == 50 and {seed[0] for seed in seeds} == {5}


def test_fewer_images_than_a_batch():
    with pytest.raises(DataError, match='too few images'):
        first(BatchStream(SequentialSampler(range(3)), 4, drop_last=True), 1)


class _Random:
    """A data set of random numbers."""

    def __init__(self, read):
        self.read = read

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, float(self.read())


@pytest.mark.parametrize('read', [random.random, np.random.rand, lambda: torch.rand(())], ids=['random', 'numpy', 'torch'])
def test_random_transforms_follow_from_the_batch(read):
    found = []
    for workers in (0, 1, 2):
        for start in (0, 3):
            stream = BatchStream(InfiniteSampler(range(10), seed=0), 2)
            stream.start = start
            loader = DataLoader(SeededDataset(_Random(read)), batch_sampler=stream, num_workers=workers, collate_fn=list)
            batches = iter(loader)
            before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
            found.append([next(batches) for _ in range(6 - start)])
            after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
            assert before[:2] == after[:2] and torch.equal(before[2], after[2])
    assert all(batches == found[0][len(found[0]) - len(batches) :] for batches in found)
    numbers = [value for batch in found[0] for _, value in batch]
    assert len(set(numbers)) == len(numbers) == 12


def test_plain_indices_are_not_seeded():
    dataset = SeededDataset(_Random(np.random.rand))
    assert dataset.__getitems__([1, 2]) != dataset.__getitems__([1, 2])
    seeded = SeededBatch([1, 2])
    seeded.seed = (0, 0, 0)
    assert dataset.__getitems__(seeded) == dataset.__getitems__(seeded)
    assert len(dataset) == 10 and dataset.read is np.random.rand
