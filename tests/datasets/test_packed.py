"""Packed data sets: the same bytes in one go, after any kill and by any number of processes; the same images when read."""

import errno
import json
import mmap
import os
import pickle
import shutil
from operator import attrgetter
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from mmsagan.datasets import ImageFolder, PackedImages, packed
from mmsagan.datasets.packed import INTERPOLATIONS, load_recipe, pack_dataset
from mmsagan.engine.config import complete_loader, load_config
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import RealImages
from mmsagan.registry import DATASETS

PACK = [dict(type='PackInputs')]
BASES = 'configs/_base_/datasets'
COUNT = 23


@pytest.fixture(scope='module', autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, 'MIN_SHARD_IMAGES', 5)
        patch.setattr(os, 'fsync', lambda descriptor: None)  # takes most of the time
        yield


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """23 images of 3 classes, of several shapes; number 4 is damaged."""
    root = tmp_path_factory.mktemp('source') / 'animals'
    random = np.random.default_rng(0)
    for number in range(COUNT):
        path = root / 'abc'[number // 8] / f'{number:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20 + number, 42 - number, 3), dtype=np.uint8)).save(path)
    damaged = root / 'a' / '04.png'
    damaged.write_bytes(damaged.read_bytes()[:100])
    return root


def dataset_of(source, share=0.1, **options) -> ImageFolder:
    return ImageFolder(data_root=str(source), max_unreadable_share=share, **options)


def pack(source, out, layout='short-side', **options) -> dict:
    with pytest.warns(UserWarning, match=r'04\.png'):
        return pack_dataset(dataset_of(source), out, 16, layout, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope='module')
def whole(tmp_path_factory, source) -> dict[str, bytes]:
    """Rectangles packed in one go."""
    out = tmp_path_factory.mktemp('whole') / 'out'
    pack(source, out)
    return content(out)


@pytest.mark.parametrize('layout', ['square', 'short-side'])
def test_what_is_written(tmp_path, source, layout):
    recipe = pack(source, tmp_path / 'out', layout)
    shards = [f'images_{number:03d}.npy' for number in range(5)]
    files = {*shards, 'labels.npy'} | ({'sizes.npy'} if layout == 'short-side' else set())
    assert set(content(tmp_path / 'out')) == files | {'recipe.json'}, 'nothing is left over'
    assert np.load(tmp_path / 'out' / 'labels.npy').tolist() == [0] * 7 + [1] * 8 + [2] * 7
    assert json.loads((tmp_path / 'out' / 'recipe.json').read_text()) == recipe
    assert recipe['classes'] == ['a', 'b', 'c'] and recipe['skipped'] == ['a/04.png'] and recipe['num_images'] == 22
    job = recipe['job']
    assert (job['source'], job['source_images'], job['layout'], job['size']) == ('animals', COUNT, layout, 16)
    assert set(recipe['files']) == files
    images = [np.load(tmp_path / 'out' / name) for name in shards]
    if layout == 'square':
        assert [array.shape for array in images] == [(count, 3, 16, 16) for count in (4, 5, 5, 5, 3)]
        assert images[0].dtype == np.uint8
    else:
        sizes = np.load(tmp_path / 'out' / 'sizes.npy')
        assert images[0].shape == (3 * sizes[:4].prod(1).sum(),) and (sizes.min(1) == 16).all() and sizes.max() > 16


def test_processes_and_the_place_of_the_source_do_not_matter(tmp_path, source, whole, monkeypatch):
    monkeypatch.chdir(source.parent)
    pack('animals', tmp_path / 'out', workers=2)
    assert content(tmp_path / 'out') == whole


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


KILLS = {
    ('read_rgb', 7): 1,
    ('write_atomically', 3): 2,
    ('open_atomically', 6): 5,
    ('write_atomically', 6): 5,
    ('os.replace', 6): 2,
    ('_describe_files', 0): 5,
}


@pytest.mark.parametrize('function, calls', KILLS)
def test_packing_continues_after_a_kill(tmp_path, source, whole, monkeypatch, function, calls):
    out, left = tmp_path / 'out', [calls]
    original = attrgetter(function)(packed)

    def kill(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(f'mmsagan.datasets.packed.{function}', kill)
        pack(source, out)
    with pytest.raises(DataError, match=str(out)):
        PackedImages(data_root=str(out))
    assert len(list(out.glob('images_*.json'))) == KILLS[function, calls]
    for path in (*out.glob('*.unfinished'), *(path for path in out.glob('*.npy') if not path.with_suffix('.json').exists())):
        path.write_bytes(b'half a shard')
    written, write_shard = [], packed._write_shard
    monkeypatch.setattr(packed, '_write_shard', lambda *args: written.append(args[0]) or write_shard(*args))
    pack(source, out)
    assert len(written) == 5 - KILLS[function, calls] and content(out) == whole


def test_too_many_unreadable_images(tmp_path, source):
    for _ in range(2):
        with pytest.warns(UserWarning), pytest.raises(DataError, match=r'1 of 23 images.*04\.png'):
            pack_dataset(dataset_of(source, 0.01), tmp_path / 'out', 16)
        assert not (tmp_path / 'out' / 'recipe.json').exists() and (tmp_path / 'out' / 'images_000.json').exists()
    pack(source, tmp_path / 'out', 'square')


def test_unreadable_images_of_one_folder_count_as_those_of_many(tmp_path):
    (tmp_path / 'source' / 'a').mkdir(parents=True)
    for number in range(50):
        path = tmp_path / 'source' / 'a' / f'{number:02}.png'
        path.touch() if number < 25 else Image.new('RGB', (16, 16), 'white').save(path)
    with pytest.warns(UserWarning, match='skipped'):
        assert pack_dataset(dataset_of(tmp_path / 'source', 0.5), tmp_path / 'out', 16)['num_images'] == 25


def test_a_finished_folder_is_compared_with_its_checksums(tmp_path, source, whole, monkeypatch):
    out = tmp_path / 'out'
    pack(source, out)
    monkeypatch.setattr(packed, '_write_shard', None)
    monkeypatch.setattr(packed.PIL, '__version__', '1.0')
    assert pack_dataset(dataset_of(source), out, 16, 'short-side')['num_images'] == 22 and content(out) == whole
    (out / 'images_002.npy').write_bytes(whole['images_002.npy'][:-1] + bytes([whole['images_002.npy'][-1] ^ 1]))
    with pytest.raises(DataError, match=r'images_002\.npy'):
        pack_dataset(dataset_of(source), out, 16, 'short-side')
    (out / 'images_002.npy').write_bytes(whole['images_002.npy'])
    (out / 'labels.npy').unlink()
    with pytest.raises(DataError, match=r'labels\.npy'):
        pack_dataset(dataset_of(source), out, 16, 'short-side')


@pytest.mark.parametrize('finished', [True, False])
def test_another_job_in_the_same_folder(tmp_path, source, monkeypatch, finished):
    out, same = tmp_path / 'out', dict(size=16, layout='short-side')
    pack(source, out)
    if not finished:
        (out / 'packing.json').write_text(json.dumps(load_recipe(out)['job']))
        (out / 'recipe.json').unlink()
        monkeypatch.setattr(packed.PIL, '__version__', '1.0')
    paths = [f'{path.parent.name}/{path.name}' for path in sorted(source.rglob('*.png'))]
    (tmp_path / 'list.txt').write_text('\n'.join(f'{path} {(number // 8 + 1) % 3}' for number, path in enumerate(paths)))
    for key, options, choice in (
        ('size', dict(same, size=32), {}),
        ('source_images', same, dict(indices=20)),
        ('source_sha256', same, dict(ann_file=str(tmp_path / 'list.txt'))),
        *([] if finished else [('pillow', same, {})]),
    ):
        with pytest.raises(ConfigError, match=f'{key}=.*--out'):
            pack_dataset(dataset_of(source, **choice), out, **options)


def test_folders_that_cannot_be_used(tmp_path, source):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'locked').mkdir()
    root = shutil.copytree(source, tmp_path / 'animals')
    for out in (tmp_path, tmp_path / 'file', tmp_path / 'file' / 'out', root, root / 'out', root / 'a' / '..' / 'out'):
        with pytest.raises(ConfigError, match=str(out)):
            pack_dataset(dataset_of(root), out, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['animals', 'file', 'locked']
    assert sorted(path.name for path in root.iterdir()) == ['a', 'b', 'c'], 'nothing was written'
    with FileLock(tmp_path / 'locked' / 'packing.lock'), pytest.raises(ConfigError, match='locked'):
        pack_dataset(dataset_of(source), tmp_path / 'locked', 16)


@pytest.mark.parametrize('cause, error', [(OSError(errno.ENOSPC, 'No space left'), ConfigError), (MemoryError(), DataError)])
def test_a_full_disk_and_lack_of_memory(tmp_path, source, whole, monkeypatch, cause, error):
    with monkeypatch.context() as patch, pytest.raises(error, match='again'):
        patch.setattr(packed, 'read_rgb', Mock(side_effect=cause))
        pack_dataset(dataset_of(source), tmp_path / 'out', 16, 'short-side')
    pack(source, tmp_path / 'out')
    assert content(tmp_path / 'out') == whole


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
def test_every_interpolation(tmp_path, cifar_arrays, interpolation):
    for index, (array, label) in enumerate(zip(*cifar_arrays)):
        path = tmp_path / 'source' / str(label) / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    source = ImageFolder(data_root=str(tmp_path / 'source'))
    pack_dataset(source, tmp_path / 'out', 24, interpolation=interpolation, workers=2)
    dataset = PackedImages(data_root=str(tmp_path / 'out'), pipeline=PACK)
    resample = getattr(Image.Resampling, interpolation.upper())
    for index in (0, 57, 99):
        with Image.open(source[index]['img_path']) as image:
            expected = image.resize((24, 24), resample)
        assert np.array_equal(dataset[index]['inputs'].permute(1, 2, 0), np.asarray(expected))
    assert np.array_equal(np.load(tmp_path / 'out' / 'labels.npy'), np.sort(cifar_arrays[1]))


def test_strips_are_skipped_where_they_would_be_too_long(tmp_path):
    (tmp_path / 'source' / 'x').mkdir(parents=True)
    for number, size in enumerate([(8, 513)] * 5 + [(9, 8), (512, 8)]):
        Image.new('RGB', size, (number, 0, 0)).save(tmp_path / 'source' / 'x' / f'{number}.png')
    with pytest.warns(UserWarning, match='8x513'):
        recipe = pack_dataset(dataset_of(tmp_path / 'source', 0.9), tmp_path / 'rectangles', 16, 'short-side')
    assert recipe['skipped'] == [f'x/{number}.png' for number in range(5)]
    assert np.load(tmp_path / 'rectangles' / 'sizes.npy').tolist() == [[16, 18], [16, 1024]]
    dataset = PackedImages(data_root=str(tmp_path / 'rectangles'), pipeline=PACK)
    assert [int(sample['inputs'].max()) for sample in dataset] == [5, 6]
    assert pack_dataset(dataset_of(tmp_path / 'source', 0), tmp_path / 'squares', 16)['num_images'] == 7


@pytest.fixture(scope='module')
def folders(tmp_path_factory, imagenet_root):
    """The ImageNet-like fixture, packed at 128 pixels in both layouts: folders / layout."""
    out = tmp_path_factory.mktemp('packed')
    for layout in ('square', 'short-side'):
        pack_dataset(ImageFolder(data_root=str(imagenet_root / 'train')), out / layout, 128, layout)
    return out


@pytest.fixture
def strips(tmp_path):
    """Four images with a short side of 10 pixels, packed at that size; a pixel's colour is its place on the long edge."""
    shapes = ((10, 13), (13, 10), (10, 10), (10, 15))
    for number, (height, width) in enumerate(shapes):
        place = np.arange(max(height, width), dtype=np.uint8)
        pixels = np.broadcast_to(place[None, :, None] if width > height else place[:height, None, None], (height, width, 3))
        folder = tmp_path / 'strips' / f'class_{number}'
        folder.mkdir(parents=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / 'image.png')
    pack_dataset(ImageFolder(data_root=str(tmp_path / 'strips')), tmp_path / 'out', 10, 'short-side')
    return tmp_path / 'out'


def test_squares_are_the_unpacked_images_to_the_bit(folders, imagenet_root):
    configs = [complete_loader(load_config(f'{BASES}/imagenet_noaug{name}_128.py'), 'train') for name in ('', '_packed')]
    configs[0]['dataset']['data_root'] = str(imagenet_root)
    configs[1]['dataset']['data_root'] = str(folders / 'square')
    unpacked, dataset = [DATASETS.build(config['dataset']) for config in configs]
    assert dataset.metainfo['classes'] == unpacked.metainfo['classes'] and len(dataset) == len(unpacked) == 18
    for index in range(18):
        assert torch.equal(dataset[index]['inputs'], unpacked[index]['inputs'])
        assert dataset[index]['labels'] == unpacked[index]['labels']


def test_rectangles_are_resized_whole_and_cropped_in_the_middle(folders, imagenet_root):
    dataset = PackedImages(data_root=str(folders / 'short-side'), pipeline=PACK)
    paths = sorted((imagenet_root / 'train').rglob('*.JPEG'))
    for index, path in enumerate(paths):
        image = Image.open(path).convert('RGB')
        scale = 128 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        left, top = (width - 128) // 2, (height - 128) // 2
        assert np.array_equal(dataset[index]['inputs'], pixels[top : top + 128, left : left + 128].transpose(2, 0, 1))


def test_random_crops_are_uniform_and_reach_both_ends(strips):
    dataset = PackedImages(data_root=str(strips), crop='random', pipeline=PACK)
    images = torch.cat([dataset.__getitems__([0, 1, 2, 3]).inputs for _ in range(600)]).reshape(600, 4, 3, 10, 10)
    for number, room in enumerate((3, 3, 0, 5)):
        starts = images[:, number, 0, 0, 0].numpy()
        assert set(starts) == set(range(room + 1))
        expected = 600 / (room + 1)
        chi_square = ((np.bincount(starts) - expected) ** 2 / expected).sum()
        assert chi_square < 21, '0.1 % of uniform choices of one of six give more than 20.5'
        place = torch.from_numpy(starts)[:, None] + torch.arange(10)
        place = place[:, :, None] if number in (1, 2) else place[:, None, :]
        assert torch.equal(images[:, number], place[:, None].expand(600, 3, 10, 10).to(torch.uint8)), 'whole crops'


def test_random_crops_follow_the_seed_one_by_one_and_in_batches(strips):
    dataset = PackedImages(data_root=str(strips), crop='random', pipeline=PACK)
    batches = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        batches.append(dataset.__getitems__([0, 1, 3] * 5).inputs)
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])
    np.random.seed(1)
    samples = [dataset[index]['inputs'] for index in [0, 1, 3] * 5]
    assert torch.equal(torch.stack(samples), batches[0])


@pytest.mark.parametrize('layout', ['square', 'short-side'])
def test_copies_do_not_take_the_images_along(folders, layout):
    dataset = PackedImages(data_root=str(folders / layout), pipeline=PACK)
    data = pickle.dumps(dataset)
    assert len(data) < 10_000 < dataset._shards[0].pixels.nbytes / 10
    for copied in (pickle.loads(data), dataset.get_subset(10)):
        base = copied._shards[0].pixels
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base, mmap.mmap)
        assert torch.equal(copied[7]['inputs'], dataset[7]['inputs'])
    assert len(dataset.get_subset([3, 5])) == 2


def test_statistics_of_other_packed_images_are_told_apart(tmp_path, folders, imagenet_root):
    pack_dataset(ImageFolder(data_root=str(imagenet_root / 'train')), tmp_path / 'small', 32)
    roots = [
        folders / 'square',
        folders / 'short-side',
        tmp_path / 'small',
        shutil.copytree(folders / 'square', tmp_path / 'x'),
    ]
    found = [RealImages(dict(type='PackedImages', data_root=str(folder), pipeline=PACK)).fingerprint for folder in roots]
    assert len({each['contents'] for each in found}) == 3 and found[0] == found[3], 'the same ones in another place'
    assert found[2]['image_size'] == [32, 32]
    # Other pixels in files of the same names.
    source = shutil.copytree(imagenet_root / 'train', tmp_path / 'source')
    image = next(source.rglob('*.JPEG'))
    Image.new('RGB', Image.open(image).size).save(image, 'JPEG')
    pack_dataset(ImageFolder(data_root=str(source)), tmp_path / 'again', 32)
    again = RealImages(dict(type='PackedImages', data_root=str(tmp_path / 'again'), pipeline=PACK)).fingerprint
    assert again.pop('contents') != found[2].pop('contents') and again == found[2]


def test_settings(folders):
    assert len(PackedImages(data_root=str(folders / 'square'), ann_file='meta/train.txt', data_prefix='train')) == 18
    for layout, options in (
        ('square', dict(crop='random')),
        ('square', dict(crop='left')),
    ):
        with pytest.raises(ConfigError, match='crop'):
            PackedImages(data_root=str(folders / layout), **options)
