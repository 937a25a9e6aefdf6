"""Data sets whose decoded images are in memory, among them MNIST and Fashion-MNIST."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import RandomFlip
from mmengine.dataset import force_full_init

from mmsagan.datasets.image_folder import ClassImageDataset
from mmsagan.datasets.transforms import PackInputs, ReadyBatch
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import DATASETS

MAX_IDX = 1 << 30  # bytes; the largest data sets of the MNIST family have 0.6 GB
_MAX_CLASSES = 100_000  # of an .npz file, whose highest label may be anything


class StoredDataset(ClassImageDataset):
    """Base class of the data sets whose images are decoded already, in memory or mapped into it.

    If the pipeline is ``PackInputs``, alone or after a horizontal ``RandomFlip``, the data loader gets whole batches, see
    :class:`~mmsagan.datasets.transforms.ReadyBatch`, of the same images. Subclasses set ``labels`` (N,) int64.
    """

    labels: np.ndarray

    def read_images(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns a copy of the images with these numbers, (N, 3, H, W) uint8 RGB."""
        raise NotImplementedError

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Returns an image ``img`` (H, W, 3) uint8 RGB, which transforms may modify, and its ``gt_label``."""
        number = self.data_list[idx]
        image = self.read_images([number])[0].transpose(1, 2, 0)
        return dict(img=image, gt_label=int(self.labels[number]), sample_idx=idx % len(self))

    @force_full_init
    def __getitems__(self, indices: Sequence[int]) -> Sequence[dict]:
        """Returns a batch of samples; PyTorch's data loader calls this method."""
        *flips, last = self.pipeline.transforms or [None]
        are_known = all(
            type(flip) is RandomFlip and (flip.direction, type(flip.prob)) == ('horizontal', float) for flip in flips
        )
        if type(last) is not PackInputs or len(flips) > 1 or not are_known:
            return [self[index] for index in indices]
        numbers = [self.data_list[index] for index in indices]
        images = self.read_images(numbers)
        for flip in flips:
            # The same draws as N calls of RandomFlip: np.random.choice compares a random number with normalized sums.
            sums = np.cumsum([flip.prob, 1 - flip.prob])
            flipped = np.random.random_sample(len(images)) < sums[0] / sums[-1]
            images[flipped] = images[flipped][..., ::-1]
        return ReadyBatch(torch.from_numpy(images), torch.from_numpy(self.labels[numbers]))


class ArrayDataset(StoredDataset):
    """Base class of the data sets in memory. Subclasses implement :meth:`load_arrays`.

    Args:
        image_size: Size in pixels to which images are padded with black on all sides. By default, they are not padded.
        per_class: Number of images of each class, the first ones; None for all.
    """

    images: np.ndarray  # (N, 3, H, W) uint8, or (N, 1, H, W) if they are grey

    def __init__(self, image_size: int | None = None, per_class: int | None = None, **kwargs):
        self.image_size = image_size
        self.per_class = per_class
        super().__init__(**dict(kwargs, serialize_data=False))

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
        """Returns images (N, H, W) or (N, H, W, 3) uint8, labels (N,) and class names."""
        raise NotImplementedError

    def load_data_list(self) -> range:
        images, labels, classes = self.load_arrays()
        is_known = images.dtype == np.uint8 and (images.ndim, images.shape[3:]) in ((3, ()), (4, (3,)))
        if not is_known or len(images) != len(labels):
            raise DataError(f'{self.name}: expected uint8 images and labels, got {images.shape} and {len(labels)} labels')
        self.set_classes(classes, labels)
        if self.per_class is not None:
            labels = np.asarray(labels)
            first = [np.flatnonzero(labels == each)[: self.per_class] for each in np.unique(labels)]
            images, labels = (array[np.sort(np.concatenate(first))] for array in (images, labels))
        # Channels first, as in batches, which are then copied in one go.
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        if self.image_size is not None:
            height, width = images.shape[2:]
            if max(height, width) > self.image_size:
                raise DataError(f'{self.name}: images of {height}x{width} pixels do not fit into image_size={self.image_size}')
            rooms = 0, 0, self.image_size - height, self.image_size - width
            images = np.pad(images, [(room // 2, room - room // 2) for room in rooms])
        self.images = images
        self.labels = np.array(labels, dtype=np.int64)
        return range(len(images))

    def read_images(self, numbers: Sequence[int]) -> np.ndarray:
        images = np.ascontiguousarray(self.images[numbers])
        return images if images.shape[1] == 3 else images.repeat(3, axis=1)


@DATASETS.register_module()
class NpzImages(ArrayDataset):
    """Images ``arr_0`` and, optionally, labels ``arr_1`` of the file ``data_root``, as of ADM and ``tools/sample.py``."""

    def load_arrays(self):
        try:
            with np.load(self.data_root, allow_pickle=False) as file:
                images = file['arr_0']
                labels = file['arr_1'] if 'arr_1' in file else np.zeros(len(images), np.int64)
            return images, labels, [str(label) for label in range(min(int(labels.max(initial=0)), _MAX_CLASSES) + 1)]
        except Exception as error:  # numpy raises many kinds for damaged files
            raise DataError(f'{self.data_root}: no images arr_0 can be read: {str(error) or type(error).__name__}') from error


@DATASETS.register_module()
class EmbeddedMNIST(ArrayDataset):
    """5 000 MNIST digits (500 per class, 28x28, grey) that come with this package: real images without a download.

    The ``split`` is ``'all'``, ``'train'`` (a fixed random choice of 4 000 digits) or ``'test'`` (the other 1 000).
    """

    classes = tuple('0123456789')

    def __init__(self, image_size: int | None = 32, split: str = 'all', **kwargs):
        if split not in ('all', 'train', 'test'):
            raise ConfigError(f"EmbeddedMNIST: split must be 'all', 'train' or 'test', got {split!r}")
        self.split = split
        super().__init__(image_size=image_size, **kwargs)

    def load_arrays(self):
        with np.load(Path(__file__).with_name('digits.npz')) as file:
            images, labels = file['images'], file['labels'].astype(np.int64)
        # RandomState is frozen: all versions of numpy split alike.
        order = np.random.RandomState(0).permutation(len(images))
        chosen = {'all': slice(None), 'train': order[:4000], 'test': order[4000:]}[self.split]
        return images[chosen], labels[chosen], self.classes


@DATASETS.register_module()
class FashionMNIST(ArrayDataset):
    """Fashion-MNIST (Xiao et al. 2017): 60 000 training and 10 000 test images, 28x28, grey.

    The four IDX files, gzipped or not, are in ``data_root`` or where Debian's package ``dataset-fashion-mnist`` puts them. With
    ``test_mode``, the test images are loaded.
    """

    classes = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot')
    debian_folder = '/usr/share/datasets/fashion-mnist'

    def __init__(self, data_root: str = 'data/fashion-mnist', image_size: int | None = 32, **kwargs):
        super().__init__(data_root=data_root, image_size=image_size, **kwargs)

    def load_arrays(self):
        split = 't10k' if self.test_mode else 'train'
        arrays = []
        for stem in (f'{split}-images-idx3-ubyte', f'{split}-labels-idx1-ubyte'):
            folders, names = (self.data_root, self.debian_folder), (stem, f'{stem}.gz')
            found = [Path(folder, name) for folder in folders for name in names if Path(folder, name).is_file()]
            if not found:
                remedy = 'put the four IDX files there, or on Debian: apt-get install dataset-fashion-mnist'
                raise DataError(f'Fashion-MNIST: no {stem}[.gz] in {self.data_root!r}; {remedy}')
            arrays.append(read_idx(found[0]))
        return *arrays, self.classes


def read_idx(path: str | Path) -> np.ndarray:
    """Reads a file of at most :data:`MAX_IDX` unsigned bytes in the MNIST family's IDX format, gzipped or not."""
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as file:
            zeros, kind, num_dimensions = struct.unpack('>HBB', file.read(4))
            shape = struct.unpack(f'>{num_dimensions}I', file.read(4 * num_dimensions))
            size = math.prod(shape)  # of Python integers, which do not overflow
            if (zeros, kind) != (0, 8) or size > MAX_IDX:
                raise ValueError(f'type {kind:#x} and {size} bytes; unsigned bytes are 0x8, at most {MAX_IDX} are read')
            data = file.read(size + 1)
        return np.frombuffer(data, np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise DataError(f'{path} is not a complete IDX file of unsigned bytes ({error})') from error
