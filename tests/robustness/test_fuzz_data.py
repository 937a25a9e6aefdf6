"""Broken and hostile data sets and images: each is refused with a file's name, or gives images."""

import gzip
import hashlib
import io
import json
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from breaking import ATTACKS, cuts, flips, limits
from PIL import Image

from mmsagan.datasets import CIFAR10, ImageFolder, PackedImages, UnreadableImageError
from mmsagan.datasets.image_folder import read_rgb
from mmsagan.datasets.mnist import read_idx
from mmsagan.datasets.packed import pack_dataset
from mmsagan.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


PIXELS = np.random.RandomState(0).randint(256, size=(5, 6, 7)).astype(np.uint8)


def idx(shape=PIXELS.shape, data: bytes = PIXELS.tobytes()) -> bytes:
    return b'\0\0\x08' + bytes([len(shape)]) + struct.pack(f'>{len(shape)}I', *shape) + data


ZIPPED = gzip.compress(idx(), mtime=0)
IDX = {
    'empty': b'',
    'fewer images': idx(shape=(4, 6, 7)),
    '2 ** 64 pixels, which are 0 in 64 bits': idx(shape=(2**31, 2**31, 4)),
    **cuts(idx(), 8),
}
GZIPS = {'plain': idx(), **cuts(ZIPPED, 8), **{f'zipped, {name}': gzip.compress(data) for name, data in IDX.items()}}


def test_broken_idx_files_are_refused(folder):
    for name, data in (IDX | GZIPS).items():
        path = folder / ('broken.gz' if name in GZIPS else 'broken')
        path.write_bytes(data)
        with limits(), pytest.raises(DataError, match=path.name):
            read_idx(path)
            pytest.fail(name)
    for name, data in flips(ZIPPED, 100).items():
        path.write_bytes(data)
        with limits():
            try:
                assert np.array_equal(read_idx(path), PIXELS), name
            except DataError as error:
                assert path.name in str(error)


BATCH = dict(data=np.random.RandomState(0).randint(256, size=(10, 3072)).astype(np.uint8), labels=list(range(10)))
PART = pickle.dumps(BATCH, protocol=2)


def part(**changes) -> bytes:
    return pickle.dumps(BATCH | changes, protocol=2)


PARTS = {
    **cuts(PART, 8),
    'no labels': pickle.dumps(dict(data=BATCH['data'])),
    'fewer images': part(data=BATCH['data'][:9]),
    'objects': part(data=BATCH['data'].astype(object)),
    'a label above the range': part(labels=[*range(9), 10]),
    **{f'{name} for pixels': part(data=attack) for name, attack in ATTACKS.items()},
}


def tar_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(f'cifar-10-batches-py/{name}')
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def header_of(**properties) -> bytes:
    member = tarfile.TarInfo('cifar-10-batches-py/test_batch')
    for key, value in properties.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse_header(size: int) -> bytes:
    """The header of a sparse part of any size, with a matching checksum."""
    header = header_of(type=tarfile.GNUTYPE_SPARSE)
    header = header[:483] + b'%011o\0' % size + header[495:]
    return header[:148] + b'%06o\0 ' % (sum(header[:148]) + 8 * 32 + sum(header[156:])) + header[156:]


def archive_of(part: bytes) -> bytes:
    return tar_of(**{'md5sums.txt': f'{hashlib.md5(part).hexdigest()}  test_batch\n'.encode(), 'test_batch': part})


TAR = archive_of(PART)
HEADERS = {
    'a sparse part of a terabyte': sparse_header(2**33 - 1),
    'a part of 2 ** 62 bytes': header_of(size=2**62),
    'notes of 8 GB': header_of(type=tarfile.XHDTYPE, size=8**11 - 1),
    'a size in words': header_of(type=tarfile.XHDTYPE, size=512) + b'13 size=many\n'.ljust(512, b'\0') + header_of(),
}
TARS = {
    **{f'tar, {name}': gzip.compress(data) for name, data in cuts(TAR[: TAR.rindex(PART[-100:]) + 50], 8).items()},
    **{f'gzip, {name}': data for name, data in cuts(gzip.compress(TAR, mtime=0)[:-1000], 8).items()},
    **{name: gzip.compress(header + bytes(1024)) for name, header in HEADERS.items()},
    **{f'a part, {name}': gzip.compress(archive_of(data)) for name, data in PARTS.items()},
    'no gzip': TAR,
    'empty': b'',
}


def test_broken_archives_are_refused(folder):
    def load(data: bytes) -> CIFAR10:
        (folder / 'cifar-10-python.tar.gz').write_bytes(data)
        return CIFAR10(data_root=str(folder), data_prefix='', test_mode=True)

    assert len(load(gzip.compress(TAR))) == 10
    for name, data in TARS.items():
        with limits(), pytest.raises(DataError, match=r'cifar-10-python\.tar\.gz|CIFAR10 in '):
            load(data)
            pytest.fail(name)
    for data in flips(gzip.compress(TAR), 100).values():
        with limits():
            try:
                assert np.array_equal(load(data).images.reshape(10, 3072), BATCH['data'])
            except DataError as error:
                assert 'cifar-10' in str(error) or 'CIFAR10 in' in str(error)
    assert [path.name for path in folder.iterdir()] == ['cifar-10-python.tar.gz']


PICTURE = Image.fromarray(np.random.RandomState(0).randint(256, size=(12, 16, 3)).astype(np.uint8))


def encoded(format: str, **options) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, format, **options)
    return buffer.getvalue()


EXIF = PICTURE.getexif()
EXIF[0x0112], EXIF[0x010F] = 6, 'maker'
IMAGES = [encoded('PNG'), encoded('JPEG', exif=EXIF), encoded('TIFF', compression='tiff_lzw'), encoded('WEBP')]
NO_IMAGES = [
    b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n',
    encoded('JPEG2000'),
    pickle.dumps(ATTACKS['os.system']),
    b'P6 -5 -5 255\n' + bytes(100),
    b'P6 ' + b'9' * 10_000 + b' 1 255\n',
]


def test_broken_images_are_unreadable_or_images(folder):
    path = folder / 'broken.png'
    broken = [data for whole in IMAGES for data in (*cuts(whole, 6).values(), *flips(whole, 8).values())]
    for data in (*broken, *NO_IMAGES):
        path.write_bytes(data)
        with limits():
            try:
                image = read_rgb(path)
            except UnreadableImageError as error:
                assert error.path == str(path) and error.reason
            else:
                assert data not in NO_IMAGES
                assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size


@pytest.fixture(scope='module')
def packed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('packed')
    for label in range(2):
        (root / 'images' / str(label)).mkdir(parents=True)
        for number in range(3):
            Image.new('RGB', (9 + number, 8), (label, number, 0)).save(root / 'images' / str(label) / f'{number}.png')
    pack_dataset(ImageFolder(data_root=str(root / 'images')), root / 'out', 8, 'short-side')
    return root / 'out'


def edit(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def run(folder: Path) -> None:
        recipe = json.loads((folder / 'recipe.json').read_text())
        change(recipe)
        (folder / 'recipe.json').write_text(json.dumps(recipe))

    return run


def put(name: str, content: bytes | np.ndarray) -> Callable[[Path], object]:
    """Another file, and a recipe that says so."""
    buffer = io.BytesIO()
    np.save(buffer, content)
    data = content if isinstance(content, bytes) else buffer.getvalue()

    def run(folder: Path) -> None:
        (folder / name).write_bytes(data)
        note = dict(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        edit(lambda recipe: recipe['files'].update({name: note}))(folder)

    return run


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Another file, and a recipe that does not know."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


SHARD = 'images_000.npy'
FILES = (SHARD, 'labels.npy', 'sizes.npy', 'recipe.json')
SIZES = np.array([(8, 9), (8, 10), (8, 11)] * 2)
COUNT = int(3 * SIZES.prod(1).sum())
OBJECTS = np.array([ATTACKS['os.system']] * 6, dtype=object)
RECIPES = [
    *(dict(format='zip'), dict(version=1), dict(job=[]), dict(files=[])),
    *(dict(classes=classes) for classes in (2, ['a'], ['a', 'b', 'c'])),
]
CONTENTS = {
    'labels.npy': [b'', OBJECTS, pickle.dumps(ATTACKS['os.system']), np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1])],
    'sizes.npy': [SIZES + [0, 1], SIZES - [1, 0]],
    SHARD: [OBJECTS, np.zeros(COUNT - 3, np.uint8)],
}
PACKED = [
    *(lambda folder, name=name: (folder / name).unlink() for name in FILES),
    *(damage(name, lambda data: data[:128] + bytes([data[128] ^ 1]) + data[129:]) for name in ('labels.npy', 'sizes.npy')),
    *(damage('recipe.json', lambda _, text=text: text) for text in (b'', b'[]', b'\xff', b'[' * 10**5)),
    damage(SHARD, lambda data: data[:-1]),
    damage(SHARD, lambda data: data.replace(f'({COUNT},)'.encode(), b'(9999,)')),
    *(edit(lambda recipe, changes=changes: recipe.update(changes)) for changes in RECIPES),
    *(edit(lambda recipe, key=key: recipe.pop(key)) for key in ('job', 'classes', 'files')),
    *(edit(lambda recipe, job=job: recipe['job'].update(job)) for job in (dict(size='8'), dict(size=4), dict(layout='round'))),
    edit(lambda recipe: recipe.update(files=dict.fromkeys(recipe['files']))),
    edit(lambda recipe: recipe['files'].pop(SHARD)),
    *(edit(lambda recipe, name=name: recipe['files'].update({name: {}})) for name in ('../../passwd', '../images_001.npy')),
    *(put(name, content) for name, contents in CONTENTS.items() for content in contents),
    lambda folder: [  # an image in two shards
        put(SHARD, np.zeros(COUNT - 100, np.uint8))(folder),
        put('images_001.npy', np.zeros(100, np.uint8))(folder),
    ],
]


def test_broken_packed_sets_are_refused(packed, folder):
    for number, attack in enumerate(PACKED):
        copy = shutil.copytree(packed, folder / f'copy_{number}')
        attack(copy)
        with limits(), pytest.raises(DataError, match=str(copy)):
            PackedImages(data_root=str(copy), pipeline=[dict(type='PackInputs')])
            pytest.fail(f'attack {number}')


def test_broken_lists_are_refused(packed, folder):
    digits = '9' * 10_000
    lists = ['0/0.png', '0 0/0.png', '0/0.png 0.5', f'0/0.png {digits}', '0/0.png ²', '0/0.png 0\n1/0.png 2\n1/1.png 2', '']
    lists += ['0/0.png -1', '0/0.png 0\n0/0.png 1', '. 0']
    for data in (bytes(range(256)), *(text.encode() for text in lists)):
        (folder / 'list.txt').write_bytes(data)
        with limits(), pytest.raises(DataError, match=r'list\.txt|ImageFolder in .*packed'):
            ImageFolder(data_root=str(packed.parent / 'images'), ann_file=str(folder / 'list.txt'))
            pytest.fail(str(data))
    with pytest.raises(DataError, match='gone.txt'):
        ImageFolder(data_root=str(folder), ann_file='gone.txt')
