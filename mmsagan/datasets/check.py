"""Checks of a data set: every image is read once to find problems before a training does, duplicates among them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from statistics import median

import numpy as np

from mmsagan.datasets.image_folder import OTHER_SUFFIXES, ClassImageDataset, UnreadableImageError, decode, open_image
from mmsagan.utils import counted
from mmsagan.utils.processes import worker_map
from mmsagan.utils.progress import progress_bar

_CHUNK = 32  # images per task of a worker process
_MAX_LISTED = 100


def check_dataset(
    dataset: ClassImageDataset, size: int | None = None, num_classes: int | None = None, workers: int = 1
) -> tuple[list[str], list[str]]:
    """Reads every image of a data set, built with ``allow_empty_classes``; returns lines about content, and about problems.

    Images smaller than ``size`` pixels are a problem, by default those smaller than half of the usual size; so is
    another number of classes than ``num_classes``, that of a model.
    """
    dataset.full_init()
    classes = dataset.metainfo['classes']
    entries = map(dataset.get_data_info, range(len(dataset)))
    sources = (entry.get('img_path') or entry['img'] for entry in entries)
    chunks = iter(lambda: list(islice(sources, _CHUNK)), [])
    if len(dataset) and 'img' in dataset.get_data_info(0):
        workers = 1  # images in this process are not sent to others
    counts, sizes, modes = Counter(dict.fromkeys(range(len(classes)), 0)), Counter(), Counter()
    sides: list[tuple[int, str]] = []
    found: dict[str, list[str]] = {}
    copies: dict[bytes, list[tuple[str, int]]] = {}
    with progress_bar('reading', len(dataset)) as advance, worker_map(workers) as parallel_map:
        results = (result for chunk in parallel_map(_inspect, chunks) for result in chunk)
        for index, (shape, mode, digest, remarks) in enumerate(results):
            advance(1)
            entry = dataset.get_data_info(index)
            name, label = str(entry.get('img_path', index)), entry['gt_label']
            counts[label] += 1
            for title, remark in remarks.items():
                found.setdefault(title, []).append(f'{name} ({remark})')
            if shape:
                text = f'{shape[1]}x{shape[0]}'
                sizes[text] += 1
                sides.append((min(shape), f'{name} ({text})'))
                modes[mode] += 1
                copies.setdefault(digest, []).append((name, label))
    per_class = list(counts.values()) or [0]
    usual = median([side for side, _ in sides] or [0])
    limit = usual / 2 if size is None else size
    common = ', '.join(f'{text} ({count})' for text, count in sizes.most_common(5))
    listed = ', '.join(f'{label} is {str(classes[label])!r}' for label in range(min(len(classes), _MAX_LISTED)))
    summary = [
        f'{dataset.name}: {counted(len(dataset), "image")}, {counted(len(classes), "class")}',
        f'images per class: minimum {min(per_class)}, median {median(per_class):g}, maximum {max(per_class)}',
        f'sizes: {len(sizes)} different ones, most often {common}' if sizes else 'sizes: none',
        f'modes: {", ".join(f"{mode} ({count})" for mode, count in modes.most_common()) or "none"}',
        f'labels: {listed}{", ..." * (len(classes) > _MAX_LISTED)}',
    ]
    problems: list[str] = []
    if num_classes not in (None, len(classes)):
        problems.append(f'the model has {num_classes} classes, the data set {len(classes)}')
    for group in copies.values():
        if len(group) > 1:
            place = 'in several classes' if len({label for _, label in group}) > 1 else 'in one class'
            files = ', '.join(f'{name} ({classes[label]})' for name, label in group)
            found.setdefault(f'images that occur more than once, {place}', []).append(files)
    small_title = f'images smaller than {limit:g} pixels{f", half of the usual {usual:g}" * (size is None)}'
    for title, items in {
        'classes without images': [str(classes[label]) for label, count in counts.items() if not count],
        **found,
        small_title: [text for side, text in sides if side < limit],
        **{f'{reason}, left out': paths for reason, paths in dataset.left_out.items()},
    }.items():
        is_problem = not title.startswith('.') or title.split(',')[0] in OTHER_SUFFIXES  # other files may belong there
        if items:
            lines = problems if is_problem else summary
            lines += [f'{title}: {len(items)}', *(f'    {item}' for item in items[:_MAX_LISTED])]
        if len(items) > _MAX_LISTED:
            lines.append(f'    ... and {len(items) - _MAX_LISTED} more')
    return summary, problems


def _inspect(sources: Sequence[str | np.ndarray]) -> list[tuple]:
    """Reads images: returns (height, width), Pillow's mode, a hash of shape and pixels, and remarks by their title."""
    results = []
    for source in sources:
        mode, pixels, remarks = 'RGB', source, {}
        try:
            if isinstance(source, str):
                with open_image(source) as image:
                    mode, (pixels, finding) = image.mode, decode(image)
                    if finding:
                        remarks['images whose values use a small part of their range'] = finding
                    # An MPO file is a photo with a preview, or of two lenses.
                    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':
                        remarks['images of several pages or frames, of which the first is used'] = str(image.n_frames)
            digest = hashlib.blake2b(f'{pixels.shape} '.encode() + pixels.tobytes(), digest_size=16).digest()
            results.append((pixels.shape[:2], mode, digest, remarks))
        except UnreadableImageError as error:
            results.append((None, '', b'', {'images that cannot be read': error.reason}))
    return results
