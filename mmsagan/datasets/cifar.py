"""CIFAR-10 from its official python archive."""

import gzip
import hashlib
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmsagan.datasets.arrays import ArrayDataset
from mmsagan.errors import DataError
from mmsagan.registry import DATASETS
from mmsagan.utils.pickles import load_array_pickle

CHECKSUM_FILE = 'md5sums.txt'
# The official parts have 31 MB each, the archive 186 MB unpacked in 9 members; what is far beyond that was made to fill memory.
MAX_PART, MAX_ARCHIVE, MAX_MEMBERS = 1 << 28, 1 << 30, 1000


@DATASETS.register_module()
class CIFAR10(ArrayDataset):
    """CIFAR-10 (Krizhevsky 2009): 50 000 training and 10 000 test images, 32x32.

    Reads ``cifar-10-python.tar.gz`` or what it unpacks to, ``cifar-10-batches-py/``, in the data folder. Its parts are pickles;
    only numpy arrays and plain values are taken from them, never code. Their MD5 sums are verified against the official
    ones. A data set of your own in this format states its sums in a file ``md5sums.txt`` beside the parts.

    Args:
        data_root: Folder of the data.
        data_prefix: Folder below it.
        test_mode: False: the training images; True: the test images.
        **kwargs: See :class:`~mmsagan.datasets.arrays.ArrayDataset`.
    """

    classes = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
    archive = 'cifar-10-python.tar.gz'
    folder = 'cifar-10-batches-py'
    official_md5 = {
        'data_batch_1': 'c99cafc152244af753f735de768cd75f',
        'data_batch_2': 'd4bba439e000b95fd0a9bffe97cbabec',
        'data_batch_3': '54ebc095f3ab1f0389bbae665268c751',
        'data_batch_4': '634d18415352ddfa80567beed471001a',
        'data_batch_5': '482c414d41f54cd18b22e5b47cb7c3cb',
        'test_batch': '40351d587109b95175f43aff81a1287e',
    }

    def __init__(self, data_root: str = 'data', data_prefix: str | dict = 'cifar10', **kwargs):
        super().__init__(data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_arrays(self):
        names = ['test_batch'] if self.test_mode else [f'data_batch_{i}' for i in range(1, 6)]
        parts = self._read_parts(names)
        expected = self._checksums(parts)
        images, labels = [], []
        for name in names:
            data = parts[name]
            if hashlib.md5(data).hexdigest() != expected[name]:
                raise DataError(
                    f'{self.name}: {name} is damaged or not the official file (its MD5 sum differs); fetch it again, '
                    f'or state the sums of a data set of your own in {CHECKSUM_FILE}'
                )
            batch_images, batch_labels = parse_batch(data, f'{self.name}: {name}')
            images.append(batch_images)
            labels.append(batch_labels)
        return np.concatenate(images), np.concatenate(labels), self.classes

    def _checksums(self, parts: Mapping[str, bytes]) -> Mapping[str, str]:
        if CHECKSUM_FILE not in parts:
            return self.official_md5
        lines = [line.split() for line in parts[CHECKSUM_FILE].decode(errors='replace').splitlines() if line.strip()]
        stated = {line[-1].lstrip('*'): line[0] for line in lines}
        missing = [name for name in parts if name not in stated and name != CHECKSUM_FILE]
        if missing:
            raise DataError(f'{self.name}: {CHECKSUM_FILE} has no sum for {", ".join(missing)}')
        return stated

    def _read_parts(self, names: list[str]) -> dict[str, bytes]:
        root = Path(self.data_prefix.get('img_path') or self.data_root)
        for folder in (root / self.folder, root):
            if all((folder / name).is_file() for name in names):
                return {name: _read_part(folder / name) for name in (*names, CHECKSUM_FILE) if (folder / name).is_file()}
        if (root / self.archive).is_file():
            wanted = {f'{self.folder}/{name}': name for name in (*names, CHECKSUM_FILE)}
            parts = _read_archive(root / self.archive, wanted)
            missing = [name for name in names if name not in parts]
            if missing:
                raise DataError(f'{root / self.archive}: no {", ".join(missing)} in it')
            return parts
        raise DataError(
            f'CIFAR-10 not found: put {self.archive}, or the folder {self.folder}/ that it unpacks to, into {root} '
            '(https://www.cs.toronto.edu/~kriz/cifar.html)'
        )


def _read_part(path: Path) -> bytes:
    if path.stat().st_size > MAX_PART:
        raise DataError(
            f'{path}: {path.stat().st_size} bytes are too many for a part of CIFAR-10, which has {MAX_PART} at most'
        )
    return path.read_bytes()


def _read_archive(path: Path, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """The plain files of these names in a .tar.gz archive, read into memory: nothing in the archive can reach the disk.

    Args:
        path: The archive.
        wanted: What each file is to be called, by its name in the archive.

    Raises:
        DataError: The archive is damaged, or larger unpacked than a data set of this kind is.
    """
    parts = {}
    try:
        # As a stream: read once from front to back, whatever the headers say.
        with gzip.open(path) as file, tarfile.open(fileobj=_Bounded(file, MAX_ARCHIVE), mode='r|') as archive:
            for count, member in enumerate(archive):
                if count == MAX_MEMBERS:
                    raise DataError(f'{path}: it has more than {MAX_MEMBERS} members, and is none of CIFAR-10')
                # A sparse file's size is what its header says, and no more of it has to be there.
                if member.name not in wanted or not member.isfile() or member.issparse():
                    continue
                if member.size > MAX_PART:
                    raise DataError(f'{path}: {member.name} claims {member.size} bytes, a part has {MAX_PART} at most')
                parts[wanted[member.name]] = archive.extractfile(member).read()
    except (DataError, MemoryError):
        raise
    except Exception as error:  # of damaged headers, tarfile raises what comes to it
        raise DataError(f'{path}: not a whole .tar.gz archive ({error}); fetch it again') from error
    return parts


class _Bounded:
    """What can be read of a file that unpacks to no more than ``limit`` bytes."""

    def __init__(self, file: BinaryIO, limit: int):
        self.file = file
        self.left = limit

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.ReadError('it unpacks to more bytes than CIFAR-10 has')
        return data


def parse_batch(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One pickled batch as images (N, 32, 32, 3) uint8 RGB and labels (N,).

    Raises:
        DataError: It is damaged, holds code, or is not a CIFAR batch.
    """
    try:
        batch = load_array_pickle(data)
    except pickle.UnpicklingError as error:
        raise DataError(f'{name}: cannot be read: {error}') from error
    if not isinstance(batch, dict) or not {'data', 'labels'} <= set(batch):
        raise DataError(f'{name}: no CIFAR batch, which is a dict with data and labels')
    pixels, labels = batch['data'], _labels(batch['labels'])
    if not isinstance(pixels, np.ndarray) or labels is None:
        raise DataError(f'{name}: expected an array of pixels and a list of whole numbers as labels')
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072 or labels.shape != pixels.shape[:1]:
        raise DataError(
            f'{name}: expected data (N, 3072) uint8 and N labels, found {pixels.shape} {pixels.dtype} and {labels.shape}'
        )
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _labels(values) -> np.ndarray | None:
    """Labels as an array of whole numbers, if they are that."""
    if isinstance(values, (list, tuple)) and all(isinstance(value, (int, np.integer)) for value in values):
        values = np.array(values) if values else np.zeros(0, np.int64)
    return values if isinstance(values, np.ndarray) and values.dtype.kind in 'iu' else None
