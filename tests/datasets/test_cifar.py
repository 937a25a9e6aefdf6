import gzip
import hashlib
import io
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest

from mmsagan.datasets import CIFAR10, cifar
from mmsagan.datasets.cifar import parse_batch
from mmsagan.errors import DataError

FOLDER = 'cifar10/cifar-10-batches-py'


@pytest.fixture
def root(tmp_path, cifar_root):
    shutil.copytree(cifar_root, tmp_path, dirs_exist_ok=True)
    return tmp_path


def restate_sum(folder, name):
    lines = [line for line in (folder / 'md5sums.txt').read_text().splitlines() if name not in line]
    digest = hashlib.md5((folder / name).read_bytes()).hexdigest()
    (folder / 'md5sums.txt').write_text('\n'.join([*lines, f'{digest}  {name}']))


def test_images_and_labels(root, cifar_arrays):
    dataset = CIFAR10(data_root=str(root), pipeline=[dict(type='PackInputs')])
    images, labels = cifar_arrays
    assert len(dataset) == 100 and dataset.metainfo['classes'][:2] == ('airplane', 'automobile')
    for index in (0, 19, 20, 99):
        sample = dataset[index]
        assert np.array_equal(sample['inputs'].numpy(), images[index].transpose(2, 0, 1))
        assert sample['labels'] == labels[index]


def test_archive(root, cifar_arrays):
    with tarfile.open(root / 'cifar10' / 'cifar-10-python.tar.gz', 'w:gz') as archive:
        archive.add(root / FOLDER, 'cifar-10-batches-py')
    shutil.rmtree(root / FOLDER)
    dataset = CIFAR10(data_root=str(root))
    assert np.array_equal(dataset.get_data_info(42)['img'], cifar_arrays[0][42])
    assert sorted(os.listdir(root / 'cifar10')) == ['cifar-10-python.tar.gz'], 'nothing is unpacked'


def test_truncated_archive(root):
    with tarfile.open(root / 'cifar10' / 'cifar-10-python.tar.gz', 'w:gz') as archive:
        archive.add(root / FOLDER, 'cifar-10-batches-py')
    shutil.rmtree(root / FOLDER)
    path = root / 'cifar10' / 'cifar-10-python.tar.gz'
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match='cifar-10-python.tar.gz.*'):
        CIFAR10(data_root=str(root))


def test_without_stated_sums_the_official_ones_hold(root):
    (root / FOLDER / 'md5sums.txt').unlink()
    with pytest.raises(DataError, match='data_batch_1 is damaged or not the official file'):
        CIFAR10(data_root=str(root))


def test_damaged_part(root):
    path = root / FOLDER / 'data_batch_3'
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match='data_batch_3 is damaged'):
        CIFAR10(data_root=str(root))


def test_missing(tmp_path):
    with pytest.raises(DataError, match='put cifar-10-python.tar.gz'):
        CIFAR10(data_root=str(tmp_path))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize(
    'content, message',
    [
        ('malicious', 'only numpy arrays and plain values'),
        (dict(data=np.zeros((2, 3072), np.uint8)), 'dict with data and labels'),
        (dict(data=np.zeros((2, 3000), np.uint8), labels=[0, 1]), r'\(N, 3072\)'),
        (dict(data=np.zeros((2, 3072), np.uint8), labels=[0]), 'N labels'),
        (dict(data=np.zeros((2, 3072), np.uint8), labels=[0, 10]), 'label 10 is out of range'),
        ([1, 2], 'dict with data and labels'),
    ],
)
def test_wrong_content(root, content, message, tmp_path):
    marker = tmp_path / 'executed'
    content = Malicious(marker) if content == 'malicious' else content
    (root / FOLDER / 'data_batch_2').write_bytes(pickle.dumps(content))
    restate_sum(root / FOLDER, 'data_batch_2')
    with pytest.raises(DataError, match=message):
        CIFAR10(data_root=str(root))
    assert not marker.exists()


def test_damaged_compression(root):
    path = root / 'cifar10' / 'cifar-10-python.tar.gz'
    with tarfile.open(path, 'w:gz') as archive:
        archive.add(root / FOLDER, 'cifar-10-batches-py')
    shutil.rmtree(root / FOLDER)
    data = bytearray(path.read_bytes())
    data[5000:5100] = bytes(100)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match='cifar-10-python.tar.gz'):
        CIFAR10(data_root=str(root))


def archive_of(root, change) -> None:
    """The archive of the data set's folder, without the folder; ``change(archive)`` adds other members first."""
    with tarfile.open(root / 'cifar10' / 'cifar-10-python.tar.gz', 'w:gz') as archive:
        change(archive)
        archive.add(root / FOLDER, 'cifar-10-batches-py')
    shutil.rmtree(root / FOLDER)


def add(archive, name, kind=tarfile.REGTYPE, data=b'', **properties) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(data)
    for key, value in properties.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


def test_an_archive_that_unpacks_to_too_much(root, monkeypatch):
    monkeypatch.setattr(cifar, 'MAX_ARCHIVE', 10**6)
    archive_of(root, lambda archive: add(archive, 'zeros', data=bytes(10**6)))
    with pytest.raises(DataError, match=r'cifar-10-python.tar.gz: .*unpacks to more bytes than CIFAR-10 has'):
        CIFAR10(data_root=str(root))


@pytest.mark.parametrize('as_archive', [True, False])
def test_a_part_that_is_too_large(root, monkeypatch, as_archive):
    monkeypatch.setattr(cifar, 'MAX_PART', 50_000)
    if as_archive:
        archive_of(root, lambda archive: None)
    with pytest.raises(DataError, match=r'data_batch_1.* 50000 at most'):
        CIFAR10(data_root=str(root))


def test_an_archive_of_very_many_members(root, monkeypatch):
    monkeypatch.setattr(cifar, 'MAX_MEMBERS', 20)
    archive_of(root, lambda archive: [add(archive, str(number)) for number in range(20)])
    with pytest.raises(DataError, match='more than 20 members'):
        CIFAR10(data_root=str(root))


def test_a_name_that_is_longer_than_the_archive(root):
    """tarfile reads a long name whole, however long its header says that it is."""
    header = tarfile.TarInfo('././@LongLink')
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 10**12
    data = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    shutil.rmtree(root / FOLDER)
    (root / 'cifar10' / 'cifar-10-python.tar.gz').write_bytes(data)
    with pytest.raises(DataError, match='not a whole .tar.gz archive|no data_batch_1'):
        CIFAR10(data_root=str(root))


@pytest.mark.parametrize(
    'name, kind',
    [
        ('../../escaped', tarfile.REGTYPE),
        ('ESCAPED', tarfile.REGTYPE),
        ('link', tarfile.SYMTYPE),
        ('cifar-10-batches-py/data_batch_1', tarfile.SYMTYPE),
        ('cifar-10-batches-py/data_batch_1', tarfile.LNKTYPE),
        ('cifar-10-batches-py/data_batch_1', tarfile.FIFOTYPE),
        ('cifar-10-batches-py/data_batch_1', tarfile.CHRTYPE),
        ('cifar-10-batches-py/data_batch_1', tarfile.DIRTYPE),
    ],
)
def test_members_that_are_no_parts_are_passed_over(root, tmp_path_factory, cifar_arrays, name, kind):
    outside = tmp_path_factory.mktemp('outside') / 'escaped'
    name = str(outside) if name == 'ESCAPED' else name
    archive_of(root, lambda archive: add(archive, name, kind, linkname='/etc/passwd'))
    before = sorted(root.rglob('*'))
    dataset = CIFAR10(data_root=str(root))
    assert np.array_equal(dataset.get_data_info(42)['img'], cifar_arrays[0][42])
    assert sorted(root.rglob('*')) == before and not outside.exists()


@pytest.mark.parametrize(
    'labels', [[0, 0.5], ['0', '1'], [None, 1], np.array([0.0, 1.0]), [[0], [1]], [0, 2**70], 'ab', {0: 1, 1: 1}]
)
def test_labels_that_are_no_whole_numbers(labels):
    data = pickle.dumps(dict(data=np.zeros((2, 3072), np.uint8), labels=labels), protocol=2)
    with pytest.raises(DataError, match='part: expected an array of pixels and a list of whole numbers'):
        parse_batch(data, 'part')


def test_sums_that_are_no_text(root):
    (root / FOLDER / 'md5sums.txt').write_bytes(b'\xff\xfe\x00 data_batch_1\n')
    with pytest.raises(DataError, match='has no sum for data_batch_2'):
        CIFAR10(data_root=str(root))
