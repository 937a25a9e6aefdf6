"""Reading every image of a data set once, to say what is wrong with it before a training finds out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from PIL import ImageOps

from mmsagan.datasets.base import ClassImageDataset, UnreadableImageError
from mmsagan.datasets.decoding import open_image, to_rgb
from mmsagan.datasets.duplicates import digest_of, same_images
from mmsagan.errors import DataError
from mmsagan.utils.progress import progress_bar
from mmsagan.utils.workers import in_order

_CHUNK = 32  # images that a process reads at a time
_SHOWN = 100  # names in a list at most


@dataclass(frozen=True)
class ImageNote:
    """What is known of an image after it was read: width and height, Pillow's mode and the sum of its pixels; or why not."""

    size: tuple[int, int] = (0, 0)
    mode: str = ''
    digest: bytes = b''
    reason: str = ''


@dataclass
class DataReport:
    """What a data set holds, and what is wrong with it.

    Attributes:
        name: Of the data set.
        classes: Their names.
        counts: Images of each class (C,), whether they can be read or not.
        unreadable: Names of images that cannot be read, and why.
        same: Groups of images with the same pixels: their names, and their classes.
        small: Names of images whose short side is less than ``size``, and their sizes.
        sizes: How many images there are of each width and height.
        modes: How many there are of each of Pillow's modes.
        size: That the networks are trained at, in pixels; None if it is not known.
        num_classes: Of the model; None if there is none.
    """

    name: str
    classes: Sequence[str]
    counts: np.ndarray
    size: int | None = None
    num_classes: int | None = None
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    same: list[list[tuple[str, str]]] = field(default_factory=list)
    small: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    sizes: Counter = field(default_factory=Counter)
    modes: Counter = field(default_factory=Counter)

    def summary(self) -> list[str]:
        """What there is, in lines."""
        common = ', '.join(f'{width}x{height} ({count})' for (width, height), count in self.sizes.most_common(5))
        modes = ', '.join(f'{mode} ({count})' for mode, count in self.modes.most_common())
        counts = self.counts.tolist() or [0]
        return [
            f'{self.name}: {self.counts.sum()} images, {len(self.classes)} classes',
            f'images of a class: {min(counts)} at least, {median(counts):g} in the median, {max(counts)} at most',
            f'sizes: {len(self.sizes)} different, most often {common}' if self.sizes else 'sizes: none',
            f'modes: {modes or "none"}',
        ]

    def findings(self) -> list[str]:
        """What is wrong, in lines; empty if nothing is."""
        empty = [str(name) for name, count in zip(self.classes, self.counts) if not count]
        found = []
        if self.num_classes not in (None, len(self.classes)):
            found.append(f'the model has {self.num_classes} classes, the data {len(self.classes)}')
        found += _listed('classes without images', empty)
        found += _listed('images that cannot be read', [f'{name} ({reason})' for name, reason in self.unreadable])
        for several, what in ((True, 'several classes'), (False, 'one class')):
            groups = [group for group in self.same if (len({label for _, label in group}) > 1) == several]
            texts = [', '.join(f'{name} ({label})' for name, label in group) for group in groups]
            found += _listed(f'images that are there more than once, in {what}', texts)
        small = [f'{name} ({width}x{height})' for name, (width, height) in self.small]
        return found + _listed(f'images smaller than the {self.size} pixels of the training', small)


def _listed(what: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = [f'    ... and {len(items) - _SHOWN} more'] if len(items) > _SHOWN else []
    return [f'{len(items)} {what}:', *(f'    {item}' for item in items[:_SHOWN]), *more]


def check_dataset(
    dataset: ClassImageDataset, size: int | None = None, num_classes: int | None = None, workers: int = 1
) -> DataReport:
    """Reads every image of a data set.

    Args:
        dataset: A data set; its pipeline is not used. Where it ``allows_empty_classes``, they are reported, too.
        size: That the networks are trained at, in pixels; smaller images are reported. None reports none.
        num_classes: Of the model that is to be trained; None compares no number of classes.
        workers: Processes that read files; 1 is this one.

    Raises:
        DataError: A process has died.
    """
    dataset.full_init()
    classes = dataset.metainfo['classes']
    report = DataReport(dataset.name, classes, np.zeros(len(classes), np.int64), size, num_classes)
    labels, numbers, digests = [], [], bytearray()
    try:
        with progress_bar('reading', len(dataset)) as advance:
            for number, (label, note) in enumerate(_notes(dataset, workers)):
                advance(1)
                labels.append(label)
                report.counts[label] += 1
                if note.reason:
                    report.unreadable.append((_name_of(dataset, number), note.reason))
                    continue
                report.sizes[note.size] += 1
                report.modes[note.mode] += 1
                if size is not None and min(note.size) < size:
                    report.small.append((_name_of(dataset, number), note.size))
                numbers.append(number)
                digests += note.digest
    except BrokenProcessPool as error:
        raise DataError('a process that reads images has died, perhaps for want of memory; take fewer --workers') from error
    for group in same_images(digests):
        members = [numbers[place] for place in group]
        report.same.append([(_name_of(dataset, number), str(classes[labels[number]])) for number in members])
    return report


def _notes(dataset: ClassImageDataset, workers: int) -> Iterator[tuple[int, ImageNote]]:
    """Class and note of every image, in order."""
    chunks = ([dataset.get_data_info(number) for number in numbers] for numbers in _ranges(len(dataset)))
    # Decoded images are in this process already.
    is_decoded = len(dataset) > 0 and 'img' in dataset.get_data_info(0)
    with in_order(inspect_images, ((chunk,) for chunk in chunks), 1 if is_decoded else workers) as results:
        for notes in results:
            yield from notes


def _ranges(count: int) -> Iterator[range]:
    return (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


def _name_of(dataset: ClassImageDataset, number: int) -> str:
    path = dataset.get_data_info(number).get('img_path')
    return str(number) if path is None else str(Path(path))


def inspect_images(entries: Sequence[Mapping]) -> list[tuple[int, ImageNote]]:
    """Reads the images of a data set's entries: class and note of each."""
    return [(entry['gt_label'], _inspect(entry)) for entry in entries]


def _inspect(entry: Mapping) -> ImageNote:
    if 'img' in entry:
        return _note('RGB', entry['img'])
    try:
        with open_image(entry['img_path']) as image:
            return _note(image.mode, np.asarray(to_rgb(ImageOps.exif_transpose(image))))
    except UnreadableImageError as error:
        return ImageNote(reason=error.reason)


def _note(mode: str, pixels: np.ndarray) -> ImageNote:
    height, width = pixels.shape[:2]
    # With the size: a row of pixels is not the same image as the column of them.
    return ImageNote((width, height), mode, digest_of(f'{width}x{height} '.encode() + pixels.tobytes()))
