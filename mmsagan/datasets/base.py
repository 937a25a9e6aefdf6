"""What all data sets here share: one class an image, checked labels, unreadable files skipped and named."""

import warnings
from collections.abc import Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from mmsagan.errors import DataError


class UnreadableImageError(Exception):
    """An image file that cannot be decoded; the data set decides whether to go on without it."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


class ClassImageDataset(BaseDataset):
    """Base of the data sets: MMEngine's, with ``metainfo['classes']`` and a label ``gt_label`` for every image.

    An image that cannot be read is named in a warning and another one is drawn in its place, as long as such images stay
    within ``max_unreadable_share``.

    Args:
        data_root: Folder of the data set.
        data_prefix: Folder of the images below it, or MMEngine's mapping.
        pipeline: Transforms.
        max_unreadable_share: Share of images that may be unreadable, in [0, 1]; counted by each loader process.
        **kwargs: See ``mmengine.dataset.BaseDataset``.

    Raises:
        DataError: The data is missing or damaged, a class has no images, or a label is out of range.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | dict = '',
        pipeline: Sequence = (),
        max_unreadable_share: float = 0.01,
        **kwargs,
    ):
        self.max_unreadable_share = max_unreadable_share
        self._unreadable: set[str] = set()
        self._unreadable_in_a_row = 0
        if isinstance(data_prefix, str):
            data_prefix = dict(img_path=data_prefix)
        super().__init__(data_root=data_root, data_prefix=data_prefix, pipeline=list(pipeline), **kwargs)

    def describe(self, classes: Sequence[str], labels: Sequence[int]) -> None:
        """Records the classes and checks the labels; to be called by ``load_data_list``."""
        # Slot 0 counts the labels below the range, the last slot those above it.
        counts = np.bincount(np.asarray(labels, dtype=np.int64).clip(-1, len(classes)) + 1, minlength=len(classes) + 2)
        if counts[0] or counts[-1]:
            wrong = next(label for label in labels if not 0 <= label < len(classes))
            raise DataError(f'{self.name}: label {wrong} is out of range, there are {len(classes)} classes')
        empty = [name for name, count in zip(classes, counts[1:-1]) if not count]
        if empty:
            raise DataError(
                f'{self.name}: no images in {len(empty)} of {len(classes)} classes: '
                f'{", ".join(map(str, empty[:5]))}{", ..." if len(empty) > 5 else ""}; '
                'add images or take the class out'
            )
        self._metainfo['classes'] = tuple(classes)

    @property
    def name(self) -> str:
        """Type and folder, for messages."""
        return f'{type(self).__name__} in {self.data_root!r}' if self.data_root else type(self).__name__

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.metainfo['classes'])

    def prepare_data(self, idx: int):
        """The transformed sample, or None if its file cannot be read."""
        try:
            sample = super().prepare_data(idx)
        except UnreadableImageError as error:
            self._note_unreadable(error)
            return None
        self._unreadable_in_a_row = 0
        return sample

    def _note_unreadable(self, error: UnreadableImageError) -> None:
        if error.path not in self._unreadable:
            self._unreadable.add(error.path)
            warnings.warn(f'unreadable image skipped: {error.path} ({error.reason})', stacklevel=2)
        self._unreadable_in_a_row += 1
        # So many in a row are no accident: the folder is wrong or gone, and there is no use in trying a share of all images.
        too_many = self._unreadable_in_a_row >= 20 or len(self._unreadable) > self.max_unreadable_share * len(self)
        if self.test_mode or too_many:
            raise DataError(
                f'{self.name}: {len(self._unreadable)} of {len(self)} images cannot be read, {self._unreadable_in_a_row} in a '
                f'row (max_unreadable_share={0 if self.test_mode else self.max_unreadable_share}); the last one: {error.path} '
                f'({error.reason})'
            )


class ArrayDataset(ClassImageDataset):
    """Base of the data sets that fit in memory: subclasses give arrays.

    Args:
        image_size: Images are padded with black to this size, centred; None leaves them.
        **kwargs: See :class:`ClassImageDataset`.
    """

    def __init__(self, image_size: int | None = None, serialize_data: bool = False, **kwargs):
        self.image_size = image_size
        super().__init__(serialize_data=serialize_data, **kwargs)

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
        """Images (N, H, W) or (N, H, W, 3) uint8, labels (N,), class names."""
        raise TypeError(f'{type(self).__name__} has to define load_arrays')

    def load_data_list(self) -> list[dict]:
        """One entry an image: ``img`` (H, W, 3) uint8 RGB and ``gt_label``."""
        images, labels, classes = self.load_arrays()
        if len(images) != len(labels):
            raise DataError(f'{self.name}: {len(images)} images but {len(labels)} labels')
        self.describe(classes, labels)
        if self.image_size is not None:
            images = pad_to(images, self.image_size)
        if images.ndim == 3:
            images = np.broadcast_to(images[..., None], (*images.shape, 3))
        return [dict(img=image, gt_label=int(label)) for image, label in zip(images, labels)]

    def get_data_info(self, idx: int) -> dict:
        """The entry of an image. The array is shared, not copied: transforms make new ones."""
        if self.serialize_data:
            return super().get_data_info(idx)
        return dict(self.data_list[idx], sample_idx=idx % len(self))


def pad_to(images: np.ndarray, size: int) -> np.ndarray:
    """Images (N, H, W, ...) centred on black squares of ``size`` pixels; larger ones are an error."""
    height, width = images.shape[1:3]
    if max(height, width) > size:
        raise DataError(f'images of {height}x{width} pixels do not fit into image_size={size}')
    top, left = (size - height) // 2, (size - width) // 2
    padding = [(0, 0), (top, size - height - top), (left, size - width - left)] + [(0, 0)] * (images.ndim - 3)
    return np.pad(images, padding)
