import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.datasets import CIFAR10, EmbeddedMNIST
from mmsagan.errors import DataError
from mmsagan.evaluation import FlatImageFolder, GeneratedImages, RealImages, SampleInputs
from mmsagan.evaluation import images as module

CPU = torch.device('cpu')


@pytest.mark.parametrize('world', [1, 2, 3, 5])
@pytest.mark.parametrize('num_images, batch_size', [(10, 4), (12, 4), (1, 4), (7, 1), (3, 100)])
def test_the_processes_share_every_image_out_once(monkeypatch, world, num_images, batch_size):
    numbers = []
    for rank in range(world):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, world))
        numbers += [number for part in module.my_ranges(num_images, batch_size) for number in part]
    assert sorted(numbers) == list(range(num_images))


class Echo(torch.nn.Module):
    """Images that show their noise's first number and their label."""

    def forward(self, noise, label=None):
        grey = torch.stack([noise[:, 0] / 10, label / 10, torch.zeros(len(noise))], 1)
        return grey[:, :, None, None].expand(-1, -1, 2, 2)


def test_generated_images():
    inputs = SampleInputs(4, 3)
    batches = list(GeneratedImages(Echo(), inputs, 10).batches(10, 4, CPU))
    noise, label = inputs.draw(0, 10)
    images = torch.cat([batch.images for batch in batches])
    assert [len(batch.images) for batch in batches] == [4, 4, 2] and images.dtype == torch.uint8
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(10))
    assert torch.equal(torch.cat([batch.label for batch in batches]), label)
    expected = ((noise[:, 0] / 10 + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(images[:, 0, 0, 0], expected)


def test_a_generator_that_has_diverged():
    class Diverged(Echo):
        def forward(self, noise, label=None):
            return super().forward(noise, label) * float('nan')

    with pytest.raises(DataError, match='the generator has diverged'):
        next(GeneratedImages(Diverged(), SampleInputs(4, 3), 10).batches(10, 4, CPU))


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
    assert images.classes == CIFAR10.classes and images.image_size == 32 and len(images) == 100


def test_the_data_sets_order(cifar_root, cifar_arrays):
    dataset = CIFAR10(data_root=str(cifar_root), pipeline=[dict(type='PackInputs')])
    batch = next(RealImages(dataset, seed=None).batches(5, 5, CPU))
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), cifar_arrays[0][:5])


def write_images(folder, sizes, suffix='.png'):
    for index, size in enumerate(sizes):
        path = folder / f'part{index % 2}' / f'{index}{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, (index, 0, 0)).save(path)


def test_a_folder_of_images(tmp_path):
    write_images(tmp_path, [(8, 6)] * 4)
    (tmp_path / 'notes.txt').write_text('no image')
    images = RealImages(FlatImageFolder(tmp_path), seed=None)
    batch = next(images.batches(4, 4, CPU))
    assert batch.images.shape == (4, 3, 6, 8) and batch.images[:, 0, 0, 0].tolist() == [0, 2, 1, 3]


def test_mixed_sizes_are_found_at_once_and_can_be_resized(tmp_path):
    write_images(tmp_path, [(8, 6), (8, 6), (9, 6)])
    with pytest.raises(DataError, match='mixed sizes: .* has 8x6 pixels, .* has 9x6; resize all of them with --size'):
        FlatImageFolder(tmp_path)
    assert RealImages(FlatImageFolder(tmp_path, size=4)).image_size == 4


def test_rotated_by_exif(tmp_path):
    """The header says 8x6 pixels for both; the second one is shown, and loaded, as 6x8."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (8, 6)).save(tmp_path / 'a.jpg')
    Image.new('RGB', (8, 6)).save(tmp_path / 'b.jpg', exif=exif)
    with pytest.raises(DataError, match='a.jpg has 8x6 pixels, .*b.jpg has 6x8'):
        FlatImageFolder(tmp_path)


def test_a_data_set_is_built_when_it_is_needed():
    images = RealImages(dict(type='CIFAR10', data_root='gone', pipeline=[]))
    assert images.content == '{"pipeline": [], "type": "CIFAR10"}', 'the place on this machine does not matter'
    with pytest.raises(DataError, match='CIFAR-10 not found'):
        len(images)


def test_mixed_sizes_in_a_data_set(tmp_path):
    class Mixed(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return dict(inputs=torch.zeros(3, 4, 4 + index, dtype=torch.uint8), labels=0)

    with pytest.raises(DataError, match='mixed sizes'):
        next(RealImages(Mixed()).batches(2, 2, CPU))


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match='is no folder'):
        FlatImageFolder(tmp_path / 'gone')
    with pytest.raises(DataError, match='no images'):
        FlatImageFolder(tmp_path)
    (tmp_path / 'broken.png').write_bytes(b'no image')
    with pytest.raises(DataError, match='broken.png: not an image'):
        FlatImageFolder(tmp_path)


def test_a_truncated_image(tmp_path):
    pixels = np.random.RandomState(0).randint(256, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    data = (tmp_path / 'image.png').read_bytes()
    (tmp_path / 'image.png').write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match='image.png: cannot be read'):
        next(RealImages(FlatImageFolder(tmp_path)).batches(1, 1, CPU))


def test_an_unreadable_image_of_a_data_set_is_not_replaced_in_statistics(imagenet_root, tmp_path):
    import shutil

    from mmsagan.datasets import ImageFolder

    shutil.copytree(imagenet_root / 'train', tmp_path / 'images')
    next((tmp_path / 'images').rglob('*.JPEG')).write_bytes(b'')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(8, 8), backend='pillow'), dict(type='PackInputs')]
    dataset = ImageFolder(data_root=str(tmp_path / 'images'), pipeline=pipeline, max_unreadable_share=0.5)
    with pytest.warns(UserWarning), pytest.raises(DataError, match='cannot be read'):
        list(RealImages(dataset).batches(len(dataset), 4, CPU))


def test_digits_are_split_without_overlap():
    parts = [{image.tobytes() for image in EmbeddedMNIST(split=split).images} for split in ('train', 'test', 'all')]
    assert len(EmbeddedMNIST(split='train')) == 4000 and len(EmbeddedMNIST(split='test')) == 1000
    assert parts[0] | parts[1] == parts[2] and not parts[0] & parts[1]
