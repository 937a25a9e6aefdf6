"""What all data sets here share: one class an image, checked labels, unreadable files skipped and named."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from mmsagan.errors import ConfigError, DataError
from mmsagan.utils.workers import ReadingNotes


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
        ConfigError: ``indices`` are out of range.

    Attributes:
        allows_empty_classes: Whether a class may be without images, as for those who look for just that.
    """

    allows_empty_classes = False

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | dict | None = '',
        pipeline: Sequence = (),
        max_unreadable_share: float = 0.01,
        **kwargs,
    ):
        self.max_unreadable_share = max_unreadable_share
        self._unreadable: set[str] = set()
        self._unreadable_in_a_row = 0
        self.reading_notes: ReadingNotes | None = None
        if data_prefix is None or isinstance(data_prefix, str):
            data_prefix = dict(img_path=data_prefix or '')
        if not isinstance(data_prefix, Mapping) or not all(isinstance(folder, str) for folder in data_prefix.values()):
            raise ConfigError(f'{type(self).__name__}: data_prefix must be the name of a folder, got {data_prefix!r:.100}')
        super().__init__(data_root=data_root, data_prefix=data_prefix, pipeline=list(pipeline), **kwargs)

    def describe(self, classes: Sequence[str], labels: Sequence[int]) -> None:
        """Records the classes and checks the labels; to be called by ``load_data_list``.

        Args:
            classes: Their names.
            labels: Class of each image, whole numbers.

        Raises:
            DataError: A label is out of range or no whole number, or a class has no images.
        """
        labels = np.asarray(labels) if len(labels) else np.zeros(0, np.int64)
        if labels.ndim != 1 or labels.dtype.kind not in 'iu':
            raise DataError(f'{self.name}: labels are one whole number an image, these are {labels.shape} {labels.dtype}')
        # Slot 0 counts the labels below the range, the last slot those above it.
        counts = np.bincount(
            labels.clip(-1 if labels.dtype.kind == 'i' else 0, len(classes)).astype(np.int64) + 1, minlength=len(classes) + 2
        )
        if counts[0] or counts[-1]:
            wrong = next(label for label in labels if not 0 <= label < len(classes))
            raise DataError(f'{self.name}: label {wrong} is out of range, there are {len(classes)} classes')
        self._metainfo['classes'] = tuple(classes)
        empty = _tell_empty(classes, counts[1:-1])
        if empty and not self.allows_empty_classes:
            raise DataError(f'{self.name}: {empty}; add images or take the class out')

    def label_of(self, entry) -> int:
        """The class of an entry of ``data_list``."""
        return entry['gt_label']

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Sequence:
        # What MMEngine's argument ``indices`` leaves of the data set.
        try:
            entries = super()._get_unserialized_subset(indices)
        except (IndexError, TypeError) as error:
            raise ConfigError(f'{self.name}: indices do not choose among {len(self.data_list)} images ({error})') from error
        if not len(entries):
            raise ConfigError(f'{self.name}: indices={indices!r:.100} leave no image')
        counts = np.bincount([self.label_of(entry) for entry in entries], minlength=self.num_classes)
        empty = _tell_empty(self.metainfo['classes'], counts)
        if empty:
            warnings.warn(f'{self.name}: of the images that indices leave, there are {empty}', stacklevel=2)
        return entries

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
        self.note_turn_to(idx)
        try:
            sample = super().prepare_data(idx)
        except UnreadableImageError as error:
            self.note_unreadable(error)
            return None
        self.note_readable()
        return sample

    def note_turn_to(self, index: int) -> None:
        """Takes note of an image before it is read, where a main process looks it up if this one dies of it."""
        if self.reading_notes is not None:
            self.reading_notes.write(index)

    def note_readable(self) -> None:
        """Takes note of an image that could be read."""
        self._unreadable_in_a_row = 0

    def note_unreadable(self, error: UnreadableImageError) -> None:
        """Names an image that cannot be read in a warning.

        Raises:
            DataError: There are too many of them.
        """
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


def _tell_empty(classes: Sequence[str], counts: Sequence[int]) -> str:
    """Names classes without images; empty if there are none."""
    empty = [str(name) for name, count in zip(classes, counts) if not count]
    if not empty:
        return ''
    return f'no images in {len(empty)} of {len(classes)} classes: {", ".join(empty[:5])}{", ..." if len(empty) > 5 else ""}'
