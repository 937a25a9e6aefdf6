"""CIFAR-10 from its folder or its archive; test_fuzz_data.py breaks both."""

import io
import shutil
import tarfile

import numpy as np
import pytest

from mmsagan.datasets import CIFAR10, archives
from mmsagan.errors import DataError

FOLDER = 'cifar10/cifar-10-batches-py'
ARCHIVE = 'cifar10/cifar-10-python.tar.gz'


@pytest.fixture
def root(tmp_path, cifar_root):
    shutil.copytree(cifar_root, tmp_path, dirs_exist_ok=True)
    return tmp_path


def pack(root, *members: tarfile.TarInfo) -> None:
    """Replaces the folder of the data set by its archive, which has other members first."""
    with tarfile.open(root / ARCHIVE, 'w:gz') as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        archive.add(root / FOLDER, 'cifar-10-batches-py')
    shutil.rmtree(root / FOLDER)


def member_of(name: str, kind=tarfile.REGTYPE, **properties) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in properties.items():
        setattr(member, key, value)
    return member


def test_images_and_labels(root, cifar_arrays):
    dataset = CIFAR10(data_root=str(root), pipeline=[dict(type='PackInputs')])
    images, labels = cifar_arrays
    assert len(dataset) == 100 and dataset.metainfo['classes'][:2] == ('airplane', 'automobile')
    for index in (0, 19, 20, 99):
        sample = dataset[index]
        assert np.array_equal(sample['inputs'].numpy(), images[index].transpose(2, 0, 1))
        assert sample['labels'] == labels[index]


def test_checksums(root, tmp_path_factory):
    (root / FOLDER / 'data_batch_3').write_bytes((root / FOLDER / 'data_batch_3').read_bytes()[:-1] + b'!')
    with pytest.raises(DataError, match='data_batch_3'):
        CIFAR10(data_root=str(root))
    (root / FOLDER / 'md5sums.txt').write_bytes(b'\xff\xfe\x00 data_batch_1\n')
    with pytest.raises(DataError, match='data_batch_1'):
        CIFAR10(data_root=str(root))
    (root / FOLDER / 'md5sums.txt').unlink()
    with pytest.raises(DataError, match='data_batch_1 .* official'):
        CIFAR10(data_root=str(root))
    with pytest.raises(DataError, match='cifar-10-python.tar.gz'):
        CIFAR10(data_root=str(tmp_path_factory.mktemp('empty')))


def test_an_archive_that_is_too_large(root, monkeypatch):
    pack(root, member_of('zeros', size=10**6))
    monkeypatch.setattr(archives, '_MAX_BYTES', 10**6)
    with pytest.raises(DataError, match=r'tar\.gz'):
        CIFAR10(data_root=str(root))


@pytest.mark.parametrize(
    'name, kind',
    [
        ('../../escaped', tarfile.REGTYPE),
        ('ESCAPED', tarfile.REGTYPE),
        ('cifar-10-batches-py/data_batch_1', tarfile.SYMTYPE),
    ],
)
def test_other_members_of_an_archive_are_ignored(root, tmp_path_factory, cifar_arrays, name, kind):
    outside = tmp_path_factory.mktemp('outside') / 'escaped'
    pack(root, member_of(str(outside) if name == 'ESCAPED' else name, kind, linkname='/etc/passwd'))
    before = sorted(root.rglob('*'))
    dataset = CIFAR10(data_root=str(root))
    assert np.array_equal(dataset.get_data_info(42)['img'], cifar_arrays[0][42])
    assert sorted(root.rglob('*')) == before and not outside.exists()
