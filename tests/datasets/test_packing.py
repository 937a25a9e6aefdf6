"""Packing: the same bytes in one go, after any kill, and by any number of processes."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
import types
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from mmsagan.datasets.packing_journal import Journal
from PIL import Image

from mmsagan.datasets import CIFAR10, ImageFolder, ImageNet, PackedImages, packing
from mmsagan.datasets.packed import INTERPOLATIONS, check_packed, pack_dataset
from mmsagan.errors import ConfigError, DataError
from mmsagan.utils.workers import in_order

FILES = ('images.npy', 'labels.npy', 'recipe.json')
COUNT = 23


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


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


def dataset_of(source, share=0.1) -> ImageFolder:
    return ImageFolder(data_root=str(source), max_unreadable_share=share)


def pack(source, out, layout='short-side', **options):
    with pytest.warns(UserWarning, match=r'unreadable image skipped: .*04\.png'):
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
    files = {*FILES, 'sizes.npy'} if layout == 'short-side' else set(FILES)
    assert set(content(tmp_path / 'out')) == files, 'nothing is left over'
    images, labels = (np.load(tmp_path / 'out' / name) for name in FILES[:2])
    assert labels.tolist() == [0] * 7 + [1] * 8 + [2] * 7
    written = json.loads((tmp_path / 'out' / 'recipe.json').read_text())
    assert written['classes'] == ['a', 'b', 'c'] and written['skipped'] == ['a/04.png'] and written['num_images'] == 22
    job = written['job']
    assert (job['source'], job['source_images'], job['layout'], job['size']) == ('animals', COUNT, layout, 16)
    assert job['interpolation'] == 'bilinear' and job['mmsagan'] and job['pillow']
    assert set(recipe.files) == files - {'recipe.json'} and check_packed(tmp_path / 'out') == recipe
    if layout == 'square':
        assert images.shape == (22, 3, 16, 16) and images.dtype == np.uint8
    else:
        sizes = np.load(tmp_path / 'out' / 'sizes.npy')
        assert images.shape == (3 * sizes.prod(1).sum(),) and (sizes.min(1) == 16).all() and sizes.max() > 16


@pytest.mark.parametrize(
    'options', [dict(chunk_size=1), dict(chunk_size=5), dict(chunk_size=22), dict(chunk_size=3, workers=2)]
)
def test_chunks_and_processes_do_not_matter(tmp_path, source, whole, options):
    pack(source, tmp_path / 'out', **options)
    assert content(tmp_path / 'out') == whole


def test_the_job_does_not_know_where_the_source_is(tmp_path, source, whole, monkeypatch):
    monkeypatch.chdir(source.parent)
    pack('animals', tmp_path / 'out')
    assert content(tmp_path / 'out') == whole


KILLS = [
    ('Journal.add', 0),
    ('Journal.add', 2),
    ('Journal._write', 0),
    ('Journal._write', 3),
    ('to_disk', 1),
    ('npy_header', 0),
    ('write_atomically', 0),
    ('write_atomically', 1),
    ('write_atomically', 2),
]


@pytest.mark.parametrize('place, calls', KILLS)
def test_on_after_a_kill(tmp_path, source, whole, monkeypatch, place, calls):
    """At each step of the work; what follows the last whole note is thrown away, however it looks."""
    out, left = tmp_path / 'out', [calls]
    owner, _, name = place.rpartition('.')
    owner = Journal if owner else packing
    original = getattr(owner, name)

    def killed(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        # The damaged image is in the first chunk, which may not be reached.
        with pytest.raises(Killed), pytest.warns() if place != 'Journal._write' or calls else nullcontext():
            pack_dataset(dataset_of(source), out, 16, 'short-side', chunk_size=5)
    with pytest.raises(DataError, match='not finished; run the same command again'):
        PackedImages(data_root=str(out))
    done = len((out / 'packing.jsonl').read_bytes().splitlines()) - 1
    assert done == {'Journal.add': calls, 'Journal._write': calls - 1, 'to_disk': 1}.get(place, 5)
    if done == 5:
        # Nothing is left to be decoded, and the chunks' notes say what was.
        monkeypatch.setattr(packing, 'make_chunk', None)
    else:
        with (out / 'images.npy').open('ab') as file:
            file.write(b'half a chunk')
        with (out / 'packing.jsonl').open('ab') as file:
            file.write(b'{"done":15,"en')
    pack(source, out, chunk_size=4)
    assert content(out) == whole


SCRIPT = """
import multiprocessing, os, signal, sys
from mmsagan.datasets import ImageFolder
from mmsagan.datasets.packed import Journal, pack_dataset

if __name__ == '__main__':
    add = Journal.add
    def add_then_die(self, **record):
        add(self, **record)
        if record['done'] >= 6:
            print(*[process.pid for process in multiprocessing.active_children()], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    Journal.add = add_then_die
    dataset = ImageFolder(data_root=sys.argv[1], max_unreadable_share=0.1)
    pack_dataset(dataset, sys.argv[2], 16, 'short-side', workers=2, chunk_size=2)
"""


def is_running(pid: str) -> bool:
    try:
        return Path('/proc', pid, 'stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/stat').is_file(), reason='looks for processes in /proc')
def test_a_kill_leaves_no_processes_behind(tmp_path, source, whole):
    (tmp_path / 'script.py').write_text(SCRIPT)
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([os.getcwd(), os.environ.get('PYTHONPATH', '')]))
    # Into a file: the workers hold a pipe open for as long as they live.
    with (tmp_path / 'pids').open('w') as file:
        arguments = [sys.executable, tmp_path / 'script.py', source, tmp_path / 'out']
        killed = subprocess.run(arguments, stdout=file, env=env, timeout=120)
    assert killed.returncode == -9
    pids = (tmp_path / 'pids').read_text().split()
    assert len(pids) == 2
    deadline = time.time() + 30
    while any(map(is_running, pids)) and time.time() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, pids))
    pack(source, tmp_path / 'out')
    assert content(tmp_path / 'out') == whole


def test_too_many_unreadable_images(tmp_path, source):
    with pytest.warns(UserWarning), pytest.raises(DataError, match=r'1 of 23 images cannot be read.*=0\.01.*04\.png'):
        pack_dataset(dataset_of(source, 0.01), tmp_path / 'out', 16, chunk_size=3)
    assert not (tmp_path / 'out' / 'recipe.json').exists()
    pack(source, tmp_path / 'out', 'square')


def test_unreadable_images_before_a_stop_count_after_it(tmp_path, source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packing, 'npy_header', None)
        with pytest.warns(UserWarning), pytest.raises(TypeError):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16)
    with pytest.warns(UserWarning), pytest.raises(DataError, match='1 of 23 images'):
        pack_dataset(dataset_of(source, 0.0), tmp_path / 'out', 16)


def test_a_folder_of_nothing_readable(tmp_path):
    """Found after 20 images in a row, whatever share may be unreadable."""
    (tmp_path / 'list.txt').write_text('\n'.join(f'a/gone_{i}.png 0' for i in range(1000)))
    dataset = ImageFolder(data_root=str(tmp_path), ann_file='list.txt', max_unreadable_share=1.0)
    with pytest.warns(UserWarning), pytest.raises(DataError, match='20 in a row'):
        pack_dataset(dataset, tmp_path / 'out', 16)


def test_a_class_that_loses_all_its_images(tmp_path):
    for name in 'ab':
        (tmp_path / 'source' / name).mkdir(parents=True)
        Image.new('RGB', (20, 20)).save(tmp_path / 'source' / name / 'image.png')
    (tmp_path / 'source' / 'b' / 'image.png').write_bytes(b'')
    with pytest.warns(UserWarning), pytest.raises(DataError, match='no images in 1 of 2 classes: b'):
        pack_dataset(dataset_of(tmp_path / 'source', 0.5), tmp_path / 'out', 16)


def test_a_finished_folder_is_compared_with_its_sums(tmp_path, source, whole, monkeypatch):
    out = tmp_path / 'out'
    pack(source, out)
    monkeypatch.setattr(packing, 'make_chunk', None)
    assert pack_dataset(dataset_of(source), out, 16, 'short-side').num_images == 22
    assert content(out) == whole
    data = bytearray(whole['images.npy'])
    data[-1] ^= 1
    (out / 'images.npy').write_bytes(data)
    with pytest.raises(DataError, match=r'images\.npy is damaged.*delete .*out, pack again'):
        pack_dataset(dataset_of(source), out, 16, 'short-side')
    (out / 'labels.npy').unlink()
    with pytest.raises(DataError, match=r'labels\.npy'):
        pack_dataset(dataset_of(source), out, 16, 'short-side')


@pytest.mark.parametrize('finished', [True, False])
@pytest.mark.parametrize(
    'options, message',
    [
        (dict(size=32), 'size=16, and now it is 32'),
        (dict(layout='square'), "layout='short-side', and now it is 'square'"),
        (dict(interpolation='bicubic'), "interpolation='bilinear', and now it is 'bicubic'"),
        (dict(indices=20), 'source_images=23, and now it is 20'),
        (dict(ann_file='list.txt'), 'source_sha256='),
    ],
)
def test_another_job_in_the_same_folder(tmp_path, source, monkeypatch, finished, options, message):
    if not finished:
        monkeypatch.setattr(packing, 'write_atomically', None)
    with pytest.warns(UserWarning), nullcontext() if finished else pytest.raises(TypeError):
        pack_dataset(dataset_of(source), tmp_path / 'out', 16, 'short-side')
    names = [
        f'{path.parent.name}/{path.name} {(number + 1) // 8 % 3}' for number, path in enumerate(sorted(source.rglob('*.png')))
    ]
    (tmp_path / 'list.txt').write_text('\n'.join(names))
    choice = {key: options[key] for key in ('indices', 'ann_file') if key in options}
    if 'ann_file' in choice:
        choice['ann_file'] = str(tmp_path / 'list.txt')
    dataset = ImageFolder(data_root=str(source), max_unreadable_share=0.1, **choice)
    job = dict(dict(size=16, layout='short-side'), **{key: value for key, value in options.items() if key not in choice})
    with pytest.raises(ConfigError, match=f'{message}.*choose another --out'):
        pack_dataset(dataset, tmp_path / 'out', **job)


def test_another_pillow(tmp_path, source, monkeypatch):
    """May decode to other pixels: it does not go on with what another one has begun, and takes what is finished."""
    with monkeypatch.context() as patch:
        patch.setattr(packing, 'npy_header', None)
        with pytest.warns(UserWarning), pytest.raises(TypeError):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16)
    with monkeypatch.context() as patch:
        patch.setattr(packing.PIL, '__version__', '1.0')
        with pytest.raises(ConfigError, match="and now it is '1.0'"):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16)
        pack(source, tmp_path / 'another', 'square')
    assert check_packed(tmp_path / 'another').job.pillow == '1.0'
    assert pack_dataset(dataset_of(source), tmp_path / 'another', 16).job.pillow == '1.0'


def test_folders_that_hold_something_else(tmp_path, source):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='is a file'):
        pack_dataset(dataset_of(source), tmp_path / 'file', 16)
    with pytest.raises(ConfigError, match='holds something else'):
        pack_dataset(dataset_of(source), tmp_path, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file'], 'nothing was written'
    with pytest.raises(ConfigError, match='cannot be written: Not a directory'):
        pack_dataset(dataset_of(source), tmp_path / 'file' / 'out', 16)


def test_two_at_a_time(tmp_path, source):
    (tmp_path / 'out').mkdir()
    with FileLock(tmp_path / 'out' / 'packing.lock'):
        with pytest.raises(ConfigError, match='is being written by another process'):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16)


def test_a_disk_that_is_too_small(tmp_path, source, monkeypatch):
    monkeypatch.setattr(packing, 'disk_usage', lambda path: types.SimpleNamespace(free=COUNT * 3 * 16 * 16 - 1))
    with pytest.raises(ConfigError, match='the images need .* GB more'):
        pack_dataset(dataset_of(source), tmp_path / 'out', 16)
    monkeypatch.setattr(packing, 'disk_usage', lambda path: types.SimpleNamespace(free=COUNT * 3 * 16 * 16))
    pack(source, tmp_path / 'out', 'square')


def test_a_disk_that_gets_full(tmp_path, source, whole, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(packing, 'to_disk', full)
        with pytest.warns(UserWarning), pytest.raises(ConfigError, match='No space left on device; fix that and run the same'):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16, 'short-side')
    pack(source, tmp_path / 'out')
    assert content(tmp_path / 'out') == whole


@pytest.mark.parametrize('text', ['[1, 2]\n', '{"source": \n', '\x00\n'])
def test_a_damaged_journal(tmp_path, source, text):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'packing.jsonl').write_text(text)
    with pytest.raises(DataError, match=r'packing\.jsonl is damaged.*delete'):
        pack_dataset(dataset_of(source), tmp_path / 'out', 16)


def test_images_that_the_journal_knows_and_that_are_gone(tmp_path, source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packing, 'npy_header', None)
        with pytest.warns(UserWarning), pytest.raises(TypeError):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16)
    (tmp_path / 'out' / 'images.npy').unlink()
    with pytest.warns(UserWarning), pytest.raises(DataError, match=r'shorter than packing\.jsonl says'):
        pack_dataset(dataset_of(source), tmp_path / 'out', 16)


def test_the_order_and_labels_of_a_list(tmp_path, imagenet_root):
    """As the data set has them, so that a sampler with the same seed draws the same images."""
    names = [f'{path.parent.name}/{path.name}' for path in sorted((imagenet_root / 'train').rglob('*.JPEG'))]
    lines = [f'{name} {2 - int(number) // 6}' for number, name in enumerate(names)]
    (tmp_path / 'list.txt').write_text('\n'.join(lines[::-1]))
    dataset = ImageNet(data_root=str(imagenet_root), ann_file=str(tmp_path / 'list.txt'))
    recipe = pack_dataset(dataset, tmp_path / 'out', 8)
    labels = np.load(tmp_path / 'out' / 'labels.npy')
    assert labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert recipe.classes == ['n01484850', 'n01443537', 'n01440764'] and recipe.job.source == 'train'


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
def test_a_data_set_in_memory_by_every_interpolation(tmp_path, cifar_root, cifar_arrays, interpolation):
    pack_dataset(CIFAR10(data_root=str(cifar_root)), tmp_path / 'out', 24, interpolation=interpolation)
    images = np.load(tmp_path / 'out' / 'images.npy')
    resample = getattr(Image.Resampling, interpolation.upper())
    for index in (0, 57, 99):
        expected = Image.fromarray(cifar_arrays[0][index]).resize((24, 24), resample)
        assert np.array_equal(images[index].transpose(1, 2, 0), np.asarray(expected))
    assert np.array_equal(np.load(tmp_path / 'out' / 'labels.npy'), cifar_arrays[1])


def test_strips_are_skipped_where_they_would_be_too_long(tmp_path):
    """Not in squares, which hold as much of every image."""
    for name, size in (('a', (9, 8)), ('b', (512, 8)), ('c', (8, 513))):
        (tmp_path / 'source' / 'x').mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size).save(tmp_path / 'source' / 'x' / f'{name}.png')
    with pytest.warns(UserWarning, match='8x513 pixels, more than 64 times as long as wide'):
        recipe = pack_dataset(dataset_of(tmp_path / 'source', 0.5), tmp_path / 'rectangles', 16, 'short-side')
    assert recipe.skipped == ['x/c.png'] and recipe.num_images == 2
    assert np.load(tmp_path / 'rectangles' / 'sizes.npy').tolist() == [[16, 18], [16, 1024]]
    assert pack_dataset(dataset_of(tmp_path / 'source', 0), tmp_path / 'squares', 16).num_images == 3


def test_names_that_are_not_utf8(tmp_path):
    folder = os.fsencode(tmp_path / 'source') + b'/caf\xe9'
    os.makedirs(folder)
    for name in (b'a.png', b'\xff.png'):
        with open(folder + b'/' + name, 'wb') as file:
            Image.new('RGB', (20, 20), (len(name), 0, 0)).save(file, 'PNG')
    with open(folder + b'/b\xe9.png', 'wb'):
        pass
    with pytest.warns(UserWarning, match='unreadable image skipped'):
        recipe = pack_dataset(dataset_of(tmp_path / 'source', 0.5), tmp_path / 'out', 16, workers=2, chunk_size=1)
    assert recipe == check_packed(tmp_path / 'out')
    assert os.fsencode(recipe.classes[0]) == b'caf\xe9' and os.fsencode(recipe.skipped[0]) == b'caf\xe9/b\xe9.png'
    dataset = PackedImages(data_root=str(tmp_path / 'out'))
    assert dataset.metainfo['classes'] == tuple(recipe.classes) and len(dataset) == 2


def test_grey_cmyk_16_bit_and_turned_images(tmp_path):
    """Packed as they are read without packing, in both layouts; small ones are enlarged."""
    folder = tmp_path / 'source' / 'x'
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(2).integers(0, 256, (6, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels[..., 0]).save(folder / 'grey.png')
    Image.fromarray(pixels).convert('CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / 'sixteen.png')
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / 'turned.png', exif=exif)
    for layout in ('square', 'short-side'):
        recipe = pack_dataset(dataset_of(tmp_path / 'source'), tmp_path / layout, 16, layout)
        assert recipe.num_images == 4 and not recipe.skipped
        packed = PackedImages(data_root=str(tmp_path / layout), pipeline=[dict(type='PackInputs')])
        images = packed.__getitems__(range(4)).inputs
        assert images.shape == (4, 3, 16, 16)
        assert (images[1] == images[1][0]).all() and np.array_equal(images[1], images[2]), 'grey of 8 and of 16 bits'
        assert not (images[0] == images[0][0]).all()
    assert np.load(tmp_path / 'short-side' / 'sizes.npy').tolist() == [[16, 29]] * 3 + [[29, 16]]
    pipeline = [*packing.make_transforms('square', 16, 'bilinear'), dict(type='PackInputs')]
    unpacked = ImageFolder(data_root=str(tmp_path / 'source'), pipeline=pipeline)
    squares = np.load(tmp_path / 'square' / 'images.npy')
    assert all(np.array_equal(squares[index], unpacked[index]['inputs']) for index in range(4))


def test_a_folder_among_the_images(tmp_path, source):
    """Would be a class without images when the command is run again, and in every training."""
    root = shutil.copytree(source, tmp_path / 'animals')
    for out in (root, root / 'packed', root / 'a' / '..' / 'packed'):
        with pytest.raises(ConfigError, match='choose another --out'):
            pack_dataset(dataset_of(root), out, 16)
    assert sorted(path.name for path in root.iterdir()) == ['a', 'b', 'c']


def test_another_process_has_just_finished(tmp_path, source, whole, monkeypatch):
    """Between the look for a recipe and the lock: what it has written is not begun anew."""

    class LateLock(FileLock):
        def __enter__(self):
            monkeypatch.setattr(packing, 'FileLock', FileLock)
            pack(source, tmp_path / 'out')
            monkeypatch.setattr(packing, 'make_chunk', None)
            return super().__enter__()

    monkeypatch.setattr(packing, 'FileLock', LateLock)
    assert pack_dataset(dataset_of(source), tmp_path / 'out', 16, 'short-side').num_images == 22
    assert content(tmp_path / 'out') == whole


def test_want_of_memory(tmp_path, source, whole, monkeypatch):
    def too_much(*args):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(packing, 'make_chunk', too_much)
        with pytest.raises(DataError, match='run the same command again with fewer --workers'):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16, 'short-side')
    pack(source, tmp_path / 'out')
    assert content(tmp_path / 'out') == whole


@pytest.mark.parametrize('size, count', [(8, 256), (128, 256), (512, 21), (4096, 1)])
def test_chunks_of_large_images_have_fewer_of_them(tmp_path, source, monkeypatch, size, count):
    seen = []
    monkeypatch.setattr(packing, '_check_space', lambda *args: None)
    monkeypatch.setattr(packing, '_append_missing', lambda *args: seen.append(args[-1]))
    monkeypatch.setattr(packing, '_finish', lambda *args: None)
    pack_dataset(dataset_of(source), tmp_path / 'out', size)
    assert seen == [count]


def test_no_more_processes_than_chunks(tmp_path, source, whole, monkeypatch):
    """Each takes seconds to start."""
    seen = []

    def note(function, arguments, workers):
        seen.append(workers)
        return in_order(function, arguments, 1)

    monkeypatch.setattr(packing, 'in_order', note)
    pack(source, tmp_path / 'one', workers=64)
    pack(source, tmp_path / 'five', workers=64, chunk_size=5)
    assert seen == [1, 5] and content(tmp_path / 'one') == content(tmp_path / 'five') == whole


def test_settings_that_there_are_not(tmp_path, source):
    for options in (dict(layout='round'), dict(interpolation='cubic')):
        with pytest.raises(ConfigError, match='is none of'):
            pack_dataset(dataset_of(source), tmp_path / 'out', 16, **options)
