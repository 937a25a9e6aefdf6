"""Data sets of decoded images: what they share, and those that fit in memory."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import force_full_init

from mmsagan.datasets.base import ClassImageDataset
from mmsagan.datasets.batches import ReadyBatch, flip_at_random, whole_batch_flip
from mmsagan.datasets.duplicates import digest_of, same_images, tell_duplicates
from mmsagan.errors import DataError


class StoredDataset(ClassImageDataset):
    """Base of the data sets whose images are decoded already, in memory or mapped into it: they give whole batches.

    ``data_list`` holds the images' numbers. Where the pipeline is ``PackInputs``, alone or after a horizontal ``RandomFlip``,
    a data loader gets each batch in one piece, see :class:`~mmsagan.datasets.batches.ReadyBatch`; with other transforms, the
    samples one by one. Both are the same images.

    Args:
        serialize_data: MMEngine's, without effect: processes share arrays as they are.
        **kwargs: See :class:`ClassImageDataset`.

    Attributes:
        labels: Class of each image (N,) int64.
    """

    labels: np.ndarray

    def __init__(self, serialize_data: bool = False, **kwargs):
        super().__init__(serialize_data=False, **kwargs)

    def read_images(self, numbers: Sequence[int]) -> np.ndarray:
        """The images of these numbers (N, 3, H, W) uint8 RGB, in memory of their own."""
        raise TypeError(f'{type(self).__name__} has to define read_images')

    def label_of(self, entry: int) -> int:
        return int(self.labels[entry])

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """The entry of an image: ``img`` (H, W, 3) uint8 RGB, which transforms may change, and ``gt_label``."""
        number = self.data_list[idx]
        image = self.read_images([number])[0].transpose(1, 2, 0)
        return dict(img=image, gt_label=int(self.labels[number]), sample_idx=idx % len(self))

    @force_full_init
    def __getitems__(self, indices: Sequence[int]) -> Sequence[dict]:
        """A batch of samples, for PyTorch's data loader, which asks for it by this name."""
        probability = whole_batch_flip(self.pipeline.transforms)
        if probability is None:
            return [self[index] for index in indices]
        self.note_turn_to(indices[0])
        numbers = [self.data_list[index] for index in indices]
        images = self.read_images(numbers)
        flip_at_random(images, probability)
        return ReadyBatch(torch.from_numpy(images), torch.from_numpy(self.labels[numbers]))


class ArrayDataset(StoredDataset):
    """Base of the data sets that fit in memory: subclasses give arrays.

    Args:
        image_size: Images are padded with black to this size, centred; None leaves them.
        **kwargs: See :class:`StoredDataset`.

    Attributes:
        images: All images (N, 3, H, W) uint8, or (N, 1, H, W) if they are grey.
    """

    images: np.ndarray

    def __init__(self, image_size: int | None = None, **kwargs):
        self.image_size = image_size
        super().__init__(**kwargs)

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
        """Images (N, H, W) or (N, H, W, 3) uint8, labels (N,), class names."""
        raise TypeError(f'{type(self).__name__} has to define load_arrays')

    def load_data_list(self) -> range:
        """Loads the arrays; gives the images' numbers."""
        images, labels, classes = self.load_arrays()
        if images.dtype != np.uint8 or not (images.ndim == 3 or images.shape[3:] == (3,)):
            raise DataError(f'{self.name}: images are (N, H, W) or (N, H, W, 3) uint8, these are {images.shape} {images.dtype}')
        if len(images) != len(labels):
            raise DataError(f'{self.name}: {len(images)} images but {len(labels)} labels')
        self.describe(classes, labels)
        self._report_duplicates(images, labels)
        if self.image_size is not None:
            images = pad_to(images, self.image_size)
        # Channels first, as batches have them: then a batch is copied in one go.
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        self.images = np.ascontiguousarray(images)
        self.labels = np.array(labels, dtype=np.int64)
        return range(len(images))

    def _report_duplicates(self, images: np.ndarray, labels: Sequence[int]) -> None:
        groups = same_images(b''.join(digest_of(np.ascontiguousarray(image)) for image in images))
        if groups:
            warnings.warn(f'{self.name}: {tell_duplicates(groups, labels, str)}', stacklevel=2)

    def read_images(self, numbers: Sequence[int]) -> np.ndarray:
        images = self.images[numbers]
        return images if images.shape[1] == 3 else images.repeat(3, axis=1)


def pad_to(images: np.ndarray, size: int) -> np.ndarray:
    """Images (N, H, W, ...) centred on black squares of ``size`` pixels; larger ones are an error."""
    height, width = images.shape[1:3]
    if max(height, width) > size:
        raise DataError(f'images of {height}x{width} pixels do not fit into image_size={size}')
    top, left = (size - height) // 2, (size - width) // 2
    padding = [(0, 0), (top, size - height - top), (left, size - width - left)] + [(0, 0)] * (images.ndim - 3)
    return np.pad(images, padding)
