import multiprocessing
import os
import signal
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.datasets import CIFAR10, EmbeddedMNIST, UnreadableImageError
from mmsagan.errors import DataError
from mmsagan.evaluation import GeneratedImages, RealImages, SampleInputs, open_images
from mmsagan.evaluation import images as module
from mmsagan.evaluation.images import apply_standing_statistics, deterministic_float32
from mmsagan.registry import MODELS

CPU = torch.device('cpu')


@pytest.mark.parametrize('world', [1, 2, 3, 5])
@pytest.mark.parametrize('num_images, batch_size', [(10, 4), (12, 4), (1, 4)])
def test_each_image_is_in_one_batch_of_one_process(monkeypatch, world, num_images, batch_size):
    numbers = []
    for rank in range(world):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, world))
        numbers += [number for part in module.local_batches(num_images, batch_size) for number in part]
    assert sorted(numbers) == list(range(num_images))


def test_a_sample_does_not_depend_on_its_batch():
    inputs = SampleInputs(noise_size=7, num_classes=5, seed=3)
    whole_noise, whole_label = inputs.draw(0, 300)
    for start, stop in ((0, 1), (63, 65), (100, 299), (299, 300), (64, 128), (5, 5)):
        noise, label = inputs.draw(start, stop)
        assert torch.equal(noise, whole_noise[start:stop]) and torch.equal(label, whole_label[start:stop])
    assert whole_noise.dtype == torch.float32 and whole_label.dtype == torch.int64


def test_frozen_numbers():
    """From numpy's RandomState, whose stream never changes; an evaluation from years ago can be repeated."""
    noise, label = SampleInputs(noise_size=2, num_classes=10, seed=0).draw(0, 3)
    expected = [[-1.831308, -0.177354], [0.038279, -0.402952], [0.002051, -0.094327]]
    np.testing.assert_allclose(noise, expected, atol=1e-6)
    assert label.tolist() == [2, 2, 1]
    noise, label = SampleInputs(noise_size=2, num_classes=10, seed=0).draw(1000, 1001)
    np.testing.assert_allclose(noise, [[-0.12112, -2.882142]], atol=1e-6)
    assert label.tolist() == [3]


def test_distribution_seeds_and_classes():
    inputs = SampleInputs(noise_size=10, num_classes=4, seed=0)
    noise, label = inputs.draw(0, 10000)
    assert (torch.bincount(label).float() / 10000).tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.01) and len(torch.unique(noise[:, 0])) > 9990
    assert not torch.equal(SampleInputs(10, 4, seed=1).noise(0, 5), inputs.noise(0, 5))
    assert torch.equal(SampleInputs(10, 0, seed=0).noise(0, 5), inputs.noise(0, 5)), 'labels have a stream of their own'
    assert SampleInputs(10).draw(0, 5)[1] is None


def test_a_generator_that_has_diverged():
    class Diverged(torch.nn.Module):
        def forward(self, noise, label=None):
            return torch.full((len(noise), 3, 2, 2), float('nan'))

    with pytest.raises(DataError):
        next(GeneratedImages(Diverged(), SampleInputs(4, 3), 10).batches(10, 4, CPU))


def test_standing_statistics(gan_config):
    generator = MODELS.build(gan_config()).generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    norms = [m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    seen = []
    handle = norms[0].register_forward_hook(lambda module, args, output: seen.append(args[0].detach()))
    result = apply_standing_statistics(generator, SampleInputs(16, 3, seed=9), steps=3, batch_size=8)
    handle.remove()
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in seen]).mean(0)
    assert len(seen) == 3
    torch.testing.assert_close(norms[0].running_mean, means)
    torch.testing.assert_close(norms[0].running_var, variances)
    assert not any(module.training for module in result.modules())
    changed = {name for name, value in generator.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if 'num_batches' not in name} == {name for name in before if 'running' in name}


@pytest.mark.parametrize('allowed', [True, False])
def test_scores_are_computed_without_tf32_whatever_the_training_uses(allowed):
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        with pytest.raises(KeyError), deterministic_float32():
            assert [backend.allow_tf32 for backend in backends] == [False, False]
            raise KeyError
        assert [backend.allow_tf32 for backend in backends] == [allowed, allowed]
    finally:
        for backend, value in zip(backends, before):
            backend.allow_tf32 = value


@pytest.mark.parametrize('workers', [0, 2])
def test_real_images_come_in_an_order_of_their_own(cifar_root, cifar_arrays, workers):
    dataset = CIFAR10(data_root=str(cifar_root), pipeline=[dict(type='PackInputs')])
    images = RealImages(dataset, workers, seed=1)
    state = torch.random.get_rng_state()
    batches = list(images.batches(30, 8, CPU))
    assert torch.equal(state, torch.random.get_rng_state()), "the training's random numbers are left alone"
    order = np.random.RandomState(1).permutation(100)[:30]
    np.testing.assert_array_equal(torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1), cifar_arrays[0][order])
    np.testing.assert_array_equal(torch.cat([batch.label for batch in batches]), cifar_arrays[1][order])
    assert len(images) == 100
    batch = next(RealImages(dataset, seed=None).batches(5, 5, CPU))
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), cifar_arrays[0][:5])


def test_a_data_set_is_built_when_it_is_needed_and_has_one_size():
    images = RealImages(dict(type='CIFAR10', data_root='gone', pipeline=[]))
    assert images.fingerprint == {}
    with pytest.raises(DataError):
        len(images)
    mixed = [dict(inputs=torch.zeros(3, 4, 4 + index, dtype=torch.uint8), labels=0) for index in range(2)]
    with pytest.raises(DataError):
        next(RealImages(mixed).batches(2, 2, CPU))


@pytest.mark.parametrize('share, batch_size, workers', [(0.25, 3, 0), (0.25, 1, 2), (0.2, 8, 0)])
def test_unreadable_images_are_left_out_up_to_the_share_of_the_data_set(tmp_path, share, batch_size, workers):
    write_images(tmp_path, [(8, 6)] * 8)
    for name in ('part0/0.png', 'part1/5.png'):
        (tmp_path / name).write_bytes(b'')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    images = RealImages(
        dict(type='ImageFolder', data_root=str(tmp_path), pipeline=pipeline, max_unreadable_share=share, test_mode=True),
        workers,
        3,
    )
    with pytest.warns(UserWarning, match='unreadable image skipped'):
        if share < 0.25:
            with pytest.raises(DataError, match=r'2 of 8 images.*max_unreadable_share=0\.2'):
                list(images.batches(8, batch_size, CPU))
            return
        batches = list(images.batches(8, batch_size, CPU))
    colors = np.array([0, 2, 4, 6, 1, 3, 5, 7])[np.random.RandomState(3).permutation(8)]
    is_kept = ~np.isin(colors, [0, 5])
    assert torch.cat([batch.images for batch in batches])[:, 0, 0, 0].tolist() == colors[is_kept].tolist(), 'none is replaced'
    assert torch.cat([batch.index for batch in batches]).tolist() == np.flatnonzero(is_kept).tolist()
    assert torch.cat([batch.label for batch in batches]).tolist() == (colors[is_kept] % 2).tolist()
    assert images.image_size == (6, 8)


def test_unreadable_images_of_other_processes_count(tmp_path, monkeypatch):
    write_images(tmp_path, [(8, 6)] * 4)
    images = RealImages(open_images(tmp_path))
    images.dataset.max_unreadable_share = 0.25
    for others, is_refused in ((['a'], False), (['a', 'b'], True)):
        errors = [UnreadableImageError(name, 'gone') for name in others]
        monkeypatch.setattr(module, 'all_gather_object', lambda own, errors=errors: [own, errors])
        with pytest.warns(UserWarning, match='skipped'), pytest.raises(DataError) if is_refused else nullcontext():
            assert len(list(images.batches(4, 2, CPU))) == 2


def test_the_order_in_which_images_cannot_be_read_does_not_matter(tmp_path):
    write_images(tmp_path, [(8, 6)] * 50)
    for path in (tmp_path / 'part0').iterdir():
        path.write_bytes(b'')
    images = RealImages(open_images(tmp_path), seed=None)
    images.dataset.max_unreadable_share = 0.5
    with pytest.warns(UserWarning, match='unreadable image skipped'):
        assert sum(len(batch.images) for batch in images.batches(50, 8, CPU)) == 25


class Troubled:
    """Ten images; with the sixth, the process that reads it hangs, dies or raises an error."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 5 and self.kind == 'hang':
            time.sleep(600)
        elif index == 5 and isinstance(self.kind, int):
            os.kill(os.getpid(), self.kind)
        elif index == 5:
            raise ArithmeticError
        return dict(inputs=torch.zeros(3, 4, 4, dtype=torch.uint8), labels=0)


@pytest.mark.parametrize(
    'kind, error, message',
    [
        ('raise', ArithmeticError, ''),
        (signal.SIGKILL, DataError, 'SIGKILL.* image 5 of Troubled'),
        (signal.SIGBUS, DataError, '/dev/shm.*--shm-size.*num_workers'),
        ('hang', DataError, 'image 5 of Troubled'),
    ],
)
def test_trouble_with_loader_processes(monkeypatch, kind, error, message):
    """The error says what it is, and no process is left."""
    if kind == 'hang':
        monkeypatch.setattr('mmsagan.datasets.workers.POLL', 1)
        monkeypatch.setattr('mmsagan.datasets.workers.TIMEOUT', 2)
    before = set(multiprocessing.active_children())
    with pytest.raises(error, match=message):
        list(RealImages(Troubled(kind), num_workers=2, seed=None).batches(10, 2, torch.device('cpu')))
    assert set(multiprocessing.active_children()) <= before


def write_images(folder, sizes):
    for index, size in enumerate(sizes):
        path = folder / f'part{index % 2}' / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, (index, 0, 0)).save(path)


def test_a_folder_of_images(tmp_path):
    write_images(tmp_path, [(8, 6)] * 4)
    (tmp_path / 'notes.txt').write_text('no image')
    batch = next(RealImages(open_images(tmp_path), seed=None).batches(4, 4, CPU))
    assert batch.images.shape == (4, 3, 6, 8) and batch.images[:, 0, 0, 0].tolist() == [0, 2, 1, 3]


def test_mixed_sizes_are_found_and_can_be_resized(tmp_path):
    write_images(tmp_path, [(8, 6), (8, 6), (9, 6)])
    with pytest.raises(DataError, match='8x6 .*9x6'):
        next(RealImages(open_images(tmp_path)).batches(3, 3, CPU))
    assert open_images(tmp_path, size=4)[2]['inputs'].shape == (3, 4, 4)


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match='gone'):
        open_images(tmp_path / 'gone')
    with pytest.raises(DataError, match=str(tmp_path)):
        open_images(tmp_path)
    Image.effect_noise((64, 64), 99).save(tmp_path / 'image.png')
    os.truncate(tmp_path / 'image.png', 2000)
    with pytest.raises(DataError, match='image.png'):
        next(RealImages(open_images(tmp_path)).batches(1, 1, CPU))
    (tmp_path / 'image.png').write_bytes(b'no image')
    images = RealImages(open_images(tmp_path))
    images.dataset.max_unreadable_share = 1
    for use in (lambda: images.image_size, lambda: list(images.batches(1, 1, CPU))):
        with pytest.raises(DataError, match='no image can be read'):
            use()


def test_digits_are_split_without_overlap():
    parts = [{image.tobytes() for image in EmbeddedMNIST(split=split).images} for split in ('train', 'test', 'all')]
    assert len(EmbeddedMNIST(split='train')) == 4000 and len(EmbeddedMNIST(split='test')) == 1000
    assert parts[0] | parts[1] == parts[2] and not parts[0] & parts[1]
