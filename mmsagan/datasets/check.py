"""Checks of a data set: every image is read once to find problems before a training does, duplicates among them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from statistics import median

import numpy as np
from PIL import ImageOps

from mmsagan.datasets.image_folder import ClassImageDataset, UnreadableImageError, open_image, to_rgb
from mmsagan.errors import DataError
from mmsagan.utils.processes import worker_map
from mmsagan.utils.progress import progress_bar

_CHUNK = 32  # images per task of a worker process
_MAX_LISTED = 100


def hash_image(pixels: np.ndarray) -> bytes:
    """Returns 16 bytes that are the same for images of the same shape and pixels only."""
    return hashlib.blake2b(f'{pixels.shape} '.encode() + pixels.tobytes(), digest_size=16).digest()


def find_duplicates(digests: Sequence[bytes]) -> list[list[int]]:
    """Returns groups of indices of equal digests, each in ascending order.

    Example:
        >>> find_duplicates([b'cat', b'dog', b'cat'])
        [[0, 2]]
    """
    first: dict[bytes, int] = {}
    groups: dict[int, list[int]] = {}
    for index, digest in enumerate(digests):
        known = first.setdefault(digest, index)
        if known != index:
            groups.setdefault(known, [known]).append(index)
    return sorted(groups.values())


def describe_duplicates(groups: list[list[int]], labels: Sequence[int], name_of: Callable[[int], str]) -> str:
    """Returns a sentence about groups of images, see :func:`find_duplicates`; those in several classes come first.

    Example:
        >>> describe_duplicates([[0, 2], [3, 4]], [0, 0, 1, 1, 1], str)
        '2 images occur more than once, 1 of them in several classes: 0 and 2'
    """
    mixed = [group for group in groups if len({int(labels[index]) for index in group}) > 1]
    text = f'{len(groups)} image{"s occur" if len(groups) > 1 else " occurs"} more than once'
    if mixed:
        text += f', {len(mixed)} of them in several classes'
    shown = '; '.join(' and '.join(map(name_of, group[:3])) for group in (mixed or groups)[:3])
    text = f'{text}: {shown}{"; ..." if len(mixed or groups) > 3 else ""}'
    # File names need not be UTF-8, logs do.
    return text.encode(errors='backslashreplace').decode()


def check_dataset(
    dataset: ClassImageDataset, size: int | None = None, num_classes: int | None = None, workers: int = 1
) -> tuple[list[str], list[str]]:
    """Reads every image of a data set.

    Args:
        dataset: A data set, built with ``allow_empty_classes``. Its pipeline is not used.
        size: Image size of the networks, in pixels; smaller images are a problem. By default, none are.
        num_classes: Number of classes of the model. By default, it is not compared.
        workers: Number of processes that read files; 1 reads in this process.

    Returns:
        Lines about the content of the data set, and lines about its problems, which are empty if there are none.

    Raises:
        DataError: A process has died.
    """
    dataset.full_init()
    classes = dataset.metainfo['classes']
    starts = range(0, len(dataset), _CHUNK)
    chunks = ([dataset.get_data_info(index) for index in range(len(dataset))[start : start + _CHUNK]] for start in starts)
    if len(dataset) and 'img' in dataset.get_data_info(0):
        workers = 1  # images in this process are not sent to others
    counts = Counter(dict.fromkeys(range(len(classes)), 0))
    sizes: Counter = Counter()
    modes: Counter = Counter()
    unreadable, small, members, digests = [], [], [], []
    try:
        with progress_bar('reading', len(dataset)) as advance, worker_map(workers) as map:
            results = (result for chunk in map(_inspect, chunks) for result in chunk)
            for index, (label, error, shape, mode, digest) in enumerate(results):
                advance(1)
                name = str(dataset.get_data_info(index).get('img_path', index))
                counts[label] += 1
                if error:
                    unreadable.append(f'{name} ({error})')
                    continue
                text = f'{shape[1]}x{shape[0]}'
                sizes[text] += 1
                modes[mode] += 1
                if size is not None and min(shape) < size:
                    small.append(f'{name} ({text})')
                members.append((f'{name} ({classes[label]})', label))
                digests.append(digest)
    except BrokenProcessPool as error:
        raise DataError('a process that reads images has died, memory may have run out; use fewer --workers') from error
    per_class = list(counts.values()) or [0]
    common = ', '.join(f'{text} ({count})' for text, count in sizes.most_common(5))
    summary = [
        f'{dataset.name}: {len(dataset)} images, {len(classes)} classes',
        f'images per class: minimum {min(per_class)}, median {median(per_class):g}, maximum {max(per_class)}',
        f'sizes: {len(sizes)} different ones, most often {common}' if sizes else 'sizes: none',
        f'modes: {", ".join(f"{mode} ({count})" for mode, count in modes.most_common()) or "none"}',
    ]
    problems = []
    if num_classes not in (None, len(classes)):
        problems.append(f'the model has {num_classes} classes, the data set {len(classes)}')
    duplicates: dict[bool, list[str]] = {True: [], False: []}
    for group in find_duplicates(digests):
        is_mixed = len({members[index][1] for index in group}) > 1
        duplicates[is_mixed].append(', '.join(members[index][0] for index in group))
    for title, items in {
        'classes without images': [str(classes[label]) for label, count in counts.items() if not count],
        'images that cannot be read': unreadable,
        'images that occur more than once, in several classes': duplicates[True],
        'images that occur more than once, in one class': duplicates[False],
        f'images smaller than {size} pixels': small,
    }.items():
        if items:
            problems += [f'{len(items)} {title}:', *(f'    {item}' for item in items[:_MAX_LISTED])]
        if len(items) > _MAX_LISTED:
            problems.append(f'    ... and {len(items) - _MAX_LISTED} more')
    return summary, problems


def _inspect(entries: Sequence[Mapping]) -> list[tuple]:
    """Reads images: returns label, error, (height, width), Pillow's mode and digest of each."""
    results = []
    for entry in entries:
        try:
            mode, pixels = 'RGB', entry.get('img')
            if pixels is None:
                with open_image(entry['img_path']) as image:
                    mode, pixels = image.mode, np.asarray(to_rgb(ImageOps.exif_transpose(image)))
            results.append((entry['gt_label'], '', pixels.shape[:2], mode, hash_image(pixels)))
        except UnreadableImageError as error:
            results.append((entry['gt_label'], error.reason, (0, 0), '', b''))
    return results
