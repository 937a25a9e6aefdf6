"""Batches ahead of time: the same ones in the same order. What CUDA does is not tested here, the order of calls is."""

import types

import pytest
import torch

from mmsagan.apis.train import train_from_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.engine import prefetch
from mmsagan.engine.prefetch import PrefetchedBatches, map_tensors, prefetch_to_gpu


class FakeCopier:
    """Copies a batch when it is waited for, and no sooner: who reads it before that sees other numbers."""

    def __init__(self):
        self.events = []
        self.pairs = []
        self.seen = []

    def start(self, batch):
        copy = map_tensors(lambda tensor: torch.full_like(tensor, 77), batch)
        self.events.append(('start', len(self.pairs)))
        self.pairs.append((copy, batch))
        return copy

    def wait(self, copy):
        number = next(number for number, (other, _) in enumerate(self.pairs) if other is copy)
        for key, tensor in copy.items():
            tensor.copy_(self.pairs[number][1][key])
        self.events.append(('wait', number))
        self.seen.append(copy['inputs'].clone())


def batches(count):
    return [
        dict(inputs=torch.full((2, 3, 4, 4), number, dtype=torch.uint8), labels=torch.tensor([number]))
        for number in range(count)
    ]


@pytest.mark.parametrize('count', [0, 1, 2, 7])
def test_the_same_batches_in_the_same_order(count):
    prefetched = PrefetchedBatches(iter(batches(count)), FakeCopier())
    result = list(prefetched)
    assert len(result) == count and next(prefetched, None) is None
    for batch, expected in zip(result, batches(count)):
        assert torch.equal(batch['inputs'], expected['inputs']) and torch.equal(batch['labels'], expected['labels'])


def test_the_next_copy_begins_before_the_current_batch_is_handed_out():
    copier = FakeCopier()
    prefetched = PrefetchedBatches(iter(batches(4)), copier)
    assert not copier.events, 'nothing is fetched before it is asked for, so that a resumed run can skip first'
    next(prefetched)
    assert copier.events == [('start', 0), ('wait', 0), ('start', 1)]
    next(prefetched)
    assert copier.events[3:] == [('wait', 1), ('start', 2)]


def test_errors_of_the_loader_come_through():
    def broken():
        yield batches(1)[0]
        raise OSError('gone')

    with pytest.raises(OSError, match='gone'):
        list(PrefetchedBatches(broken(), FakeCopier()))


def test_tensors_are_mapped_wherever_they_are():
    batch = dict(inputs=[torch.ones(2), torch.zeros(1)], labels=(torch.tensor([3]), 4), name='x', nothing=None)
    mapped = map_tensors(lambda tensor: tensor + 1, batch)
    assert mapped['inputs'][0].tolist() == [2, 2] and mapped['labels'][0].tolist() == [4]
    assert (mapped['labels'][1], mapped['name'], mapped['nothing']) == (4, 'x', None)


@pytest.mark.parametrize('device, pinned, expected', [('cuda', True, True), ('cuda', False, False), ('cpu', True, False)])
def test_only_on_a_gpu_and_from_pinned_memory(monkeypatch, device, pinned, expected):
    monkeypatch.setattr(prefetch, 'CudaCopier', lambda device: FakeCopier())
    original = iter(())
    loop = types.SimpleNamespace(dataloader_iterator=original, dataloader=types.SimpleNamespace(pin_memory=pinned))
    model = types.SimpleNamespace(data_preprocessor=types.SimpleNamespace(device=torch.device(device)))
    prefetch_to_gpu(types.SimpleNamespace(train_loop=loop, model=model))
    assert isinstance(loop.dataloader_iterator, PrefetchedBatches) == expected
    assert expected or loop.dataloader_iterator is original


@pytest.fixture
def train(tiny_run, monkeypatch):
    """Trains to one length after the other; gives the last state, and with ``ahead`` the images that each part has seen."""

    def run(name, lengths, ahead, **options):
        copiers = []

        def put_ahead(runner):
            copiers.append(FakeCopier())
            runner.train_loop.dataloader_iterator = PrefetchedBatches(runner.train_loop.dataloader_iterator, copiers[-1])

        monkeypatch.setattr('mmsagan.apis.train.prefetch_to_gpu', put_ahead if ahead else prefetch_to_gpu)
        for length in lengths:
            cfg = tiny_run(max_iters=length, **{'default_hooks.checkpoint.interval': 2, 'randomness.seed': 3, **options})
            cfg.work_dir, cfg.resume = f'{cfg.work_dir}_{name}', length != lengths[0]
            train_from_config(cfg)
        return load_checkpoint_file(f'{cfg.work_dir}/iter_{length}.pth')['state_dict'], [copier.seen for copier in copiers]

    return run


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_training_is_the_same_with_it(train, num_workers):
    """Random flips of the loader included."""
    options = {'train_dataloader.num_workers': num_workers}
    (plain, _), (ahead, seen) = train('plain', (4,), False, **options), train('ahead', (4,), True, **options)
    assert [len(images) for images in seen] == [4]
    assert all(torch.equal(value, ahead[key]) for key, value in plain.items())


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_resumed_training_goes_on_with_the_images_that_were_next(train, num_workers):
    """Without random flips, which another process draws anew."""
    options = {'train_dataloader.num_workers': num_workers, 'train_dataloader.dataset.pipeline': [dict(type='PackInputs')]}
    _, (whole,) = train('whole', (4,), True, **options)
    _, parts = train('parts', (2, 4), True, **options)
    assert len(whole) == 4 and len(parts[0]) == 2
    # Upstream's MMEngine fetches the first two again, and throws them away.
    assert all(torch.equal(*pair) for pair in zip(whole, [*parts[0], *parts[1][-2:]]))
    assert not torch.equal(whole[0], whole[2])
