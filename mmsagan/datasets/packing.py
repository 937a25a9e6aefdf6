"""Writing packed data sets: in parallel, to the same bytes by any number of processes, and on from where it was stopped.

The images are split into chunks in the data set's order. Processes decode and resize them; this one appends each chunk to
``images.npy`` as its turn comes, has it written to the disk, and then notes it in a journal. After a kill, what the journal
does not hold is cut off, and packing goes on there. The other files follow, ``recipe.json`` last, and the journal goes.
"""

import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from shutil import disk_usage

import numpy as np
import PIL
from filelock import FileLock, Timeout

from mmsagan import __version__
from mmsagan.datasets.base import ClassImageDataset, UnreadableImageError
from mmsagan.datasets.duplicates import same_images, tell_duplicates
from mmsagan.datasets.packed import IMAGES, JOURNAL, LABELS, LAYOUTS, RECIPE, SIZES, Job, Recipe
from mmsagan.datasets.packing_chunks import Chunk, make_chunk, make_transforms
from mmsagan.datasets.packing_journal import HEADER_SIZE, Journal, check_same_job, npy_header, to_disk
from mmsagan.errors import ConfigError, DataError
from mmsagan.utils.files import nearest_folder, write_atomically
from mmsagan.utils.progress import progress_bar
from mmsagan.utils.workers import in_order

LOCK = 'packing.lock'
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')


def pack_dataset(
    dataset: ClassImageDataset,
    out: str | Path,
    size: int = 128,
    layout: str = 'square',
    interpolation: str = 'bilinear',
    workers: int = 1,
    chunk_size: int | None = None,
) -> Recipe:
    """Packs a data set, goes on with one that was stopped, or compares a finished one with its sums.

    Args:
        dataset: A data set without a pipeline. Its ``max_unreadable_share`` is how many images may be skipped.
        out: Folder of the packed data set, new or from a call that was stopped.
        size: Of the squares, or of the images' short sides, in pixels.
        layout: ``'square'`` or ``'short-side'``, see :mod:`mmsagan.datasets.packed`.
        interpolation: Pillow's, one of :data:`INTERPOLATIONS`.
        workers: Processes that decode and resize; 1 is this one. The result does not depend on it.
        chunk_size: Images of a chunk; None: at most 256, and squares of 16 MiB. The result does not depend on it either.

    Returns:
        The recipe.

    Raises:
        ConfigError: The folder holds something else, is among the images, is being written by another process, or cannot be
            written.
        DataError: Too many images cannot be read, or a finished folder is damaged.
    """
    if layout not in LAYOUTS or interpolation not in INTERPOLATIONS:
        raise ConfigError(f'layout {layout!r} or interpolation {interpolation!r} is none of {LAYOUTS} and {INTERPOLATIONS}')
    _check_outside(dataset, Path(out))
    job = describe_job(dataset, layout, size, interpolation)
    if Path(out, RECIPE).is_file():
        return check_packed(Path(out), job)
    with _writing(Path(out)) as folder:
        if (folder / RECIPE).is_file():  # finished by another process just now
            return check_packed(folder, job)
        square = 3 * size * size
        _check_space(folder, len(dataset) * square)
        with Journal(folder, job) as journal:
            _append_missing(dataset, folder, journal, job, workers, chunk_size or max(1, min(256, (1 << 24) // square)))
            return _finish(dataset, folder, journal, job)


def describe_job(dataset: ClassImageDataset, layout: str, size: int, interpolation: str) -> Job:
    """What is to be packed, and how; two descriptions are equal if the results are."""
    root = source_folder(dataset)
    digest = hashlib.sha256(json.dumps(dataset.metainfo['classes']).encode())
    for entry in _entries(dataset):
        digest.update(f'{image_name(entry, root)} {entry["gt_label"]}\n'.encode(errors='surrogateescape'))
    source = root.resolve().name if root is not None else dataset.name
    return Job(source, len(dataset), digest.hexdigest(), layout, size, interpolation, __version__, PIL.__version__)


def source_folder(dataset: ClassImageDataset) -> Path | None:
    """The folder below which a data set's images are; None if they are not files."""
    if 'img_path' not in dataset.get_data_info(0):
        return None
    return Path(dataset.data_prefix.get('img_path') or dataset.data_root)


def image_name(entry: dict, root: Path | None) -> str:
    """An image's path below the data set's folder; the sum of its pixels if it is not a file."""
    if root is None:
        return hashlib.sha256(np.ascontiguousarray(entry['img'])).hexdigest()
    return entry['img_path'].removeprefix(f'{root}{os.sep}').replace(os.sep, '/')


def _entries(dataset: ClassImageDataset) -> Iterator[dict]:
    return (dataset.get_data_info(index) for index in range(len(dataset)))


# ------------------------------------------------------------------------------------------------------------- the folder


def _check_outside(dataset: ClassImageDataset, out: Path) -> None:
    root = source_folder(dataset)
    has_list = bool(dataset.ann_file) and Path(dataset.ann_file).is_file()
    if root is not None and not has_list and out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f'{out} is inside of {root}, where it would be taken for a class; choose another --out')


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """Makes the folder, keeps other processes out of it, and removes the journal if the block does its work.

    Within it, whatever the system refuses and whatever a process dies of is the user's to mend.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f'{folder} is a file; choose another --out')
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and not names & {JOURNAL, LOCK}:
        raise ConfigError(f'{folder} holds something else already; choose another --out')
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock:
            yield folder
            for name in (JOURNAL, LOCK):
                (folder / name).unlink(missing_ok=True)
    except Timeout as error:
        raise ConfigError(f'{folder} is being written by another process; wait for it, or choose another --out') from error
    except OSError as error:
        raise ConfigError(
            f'{folder} cannot be written: {error.strerror or error}; fix that and run the same command again: it '
            'continues where it was'
        ) from error
    except (BrokenProcessPool, MemoryError) as error:
        raise DataError(
            'a process that decodes images has died, perhaps for want of memory; run the same command again with fewer '
            '--workers, it goes on where it was'
        ) from error


def _check_space(folder: Path, needed: int) -> None:
    """Says before the work if there is no room for the squares; rectangles take more, which shows when they are written."""
    images = folder / IMAGES
    missing = needed - (images.stat().st_size if images.is_file() else 0)
    free = disk_usage(nearest_folder(images)).free
    if missing > free:
        raise ConfigError(f'{folder}: the images need {missing / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB left')


def check_packed(folder: Path, job: Job | None = None) -> Recipe:
    """Compares a finished folder with its recipe, all its bytes, and the recipe with a job.

    Raises:
        ConfigError: It is of another job.
        DataError: It is damaged.
    """
    recipe = Recipe.load(folder)
    if job is not None:
        # What other versions have packed is as good.
        job = replace(job, mmsagan=recipe.job.mmsagan, pillow=recipe.job.pillow)
        check_same_job(folder, asdict(recipe.job), job)
    for name, note in file_notes(folder, recipe.files).items():
        if note != recipe.files[name]:
            raise DataError(
                f'{folder / name} is damaged: its size or sha256 is not what the recipe says; delete {folder}, pack again'
            )
    return recipe


def file_notes(folder: Path, names: Iterable[str]) -> dict[str, dict]:
    """Size and sha256 of files, by name."""
    notes = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise DataError(f'{path} is missing; delete {folder}, pack again')
        digest, block, total = hashlib.sha256(), 1 << 24, path.stat().st_size
        with path.open('rb') as file, progress_bar(f'sha256 of {name}, 16 MiB', -(-total // block)) as advance:
            while data := file.read(block):
                digest.update(data)
                advance(1)
        notes[name] = dict(bytes=total, sha256=digest.hexdigest())
    return notes


# ------------------------------------------------------------------------------------------------------------- the images


def _append_missing(
    dataset: ClassImageDataset, folder: Path, journal: Journal, job: Job, workers: int, chunk_size: int
) -> None:
    """Appends the chunks that are not in the journal to ``images.npy``, in order."""
    transforms = make_transforms(job.layout, job.size, job.interpolation)
    for index in journal.skipped:
        path = dataset.get_data_info(index).get('img_path', 'an array')
        dataset.note_unreadable(UnreadableImageError(path, 'found before'))
        dataset.note_readable()
    starts = range(journal.done, len(dataset), chunk_size)
    chunks = (
        ([dataset.get_data_info(index) for index in range(start, min(start + chunk_size, len(dataset)))], transforms)
        for start in starts
    )
    path = folder / IMAGES
    with (
        path.open('r+b' if path.is_file() else 'w+b') as file,
        progress_bar('packing', len(dataset)) as advance,
        in_order(make_chunk, chunks, min(workers, len(starts) or 1)) as results,
    ):
        if path.stat().st_size < journal.end and journal.done:
            raise DataError(f'{path} is shorter than {JOURNAL} says; delete {folder}, pack again')
        file.truncate(journal.end)
        file.seek(journal.end)
        advance(journal.done)
        for start, chunk in zip(starts, results):
            count = _note_images(dataset, chunk)
            file.write(chunk.pixels)
            to_disk(file)
            skipped = [start + place for place in chunk.unreadable]
            sizes = chunk.sizes if job.layout == 'short-side' else []
            end = journal.end + len(chunk.pixels)
            journal.add(done=start + count, end=end, sizes=sizes, skipped=skipped, digests=chunk.digests)
            advance(count)


def _note_images(dataset: ClassImageDataset, chunk: Chunk) -> int:
    """Tells the data set which images can be read and which cannot, in order; it knows how many are too many."""
    count = len(chunk.sizes) + len(chunk.unreadable)
    for place in range(count):
        if place in chunk.unreadable:
            dataset.note_unreadable(chunk.unreadable[place])
        else:
            dataset.note_readable()
    return count


def _finish(dataset: ClassImageDataset, folder: Path, journal: Journal, job: Job) -> Recipe:
    """Writes what is not images: the header before them, the other files, and the recipe."""
    kept = sorted(set(range(len(dataset))).difference(journal.skipped))
    labels = [dataset.get_data_info(index)['gt_label'] for index in kept]
    classes, root = list(dataset.metainfo['classes']), source_folder(dataset)
    dataset.describe(classes, labels)
    groups = same_images(journal.digests)
    if groups:
        told = tell_duplicates(groups, labels, lambda number: image_name(dataset.get_data_info(kept[number]), root))
        warnings.warn(f'{dataset.name}: {told}', stacklevel=2)
    shape: tuple[int, ...] = (len(labels), 3, job.size, job.size)
    arrays = {LABELS: np.array(labels, np.int64)}
    if job.layout == 'short-side':
        shape = (journal.end - HEADER_SIZE,)
        arrays[SIZES] = np.array(journal.sizes, np.int64)
    with (folder / IMAGES).open('r+b') as file:
        file.write(npy_header(shape))
        to_disk(file)
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        write_atomically(folder / name, buffer.getvalue())
    names = [image_name(dataset.get_data_info(index), root) for index in sorted(journal.skipped)]
    recipe = Recipe(job, len(labels), classes, names, file_notes(folder, [IMAGES, *sorted(arrays)]))
    write_atomically(folder / RECIPE, recipe.to_bytes())
    return recipe
