"""Packed data sets: images that are decoded and resized once, in files that are mapped into memory.

``docs/data.md`` describes the files and the two layouts. ``recipe.json`` is written last: a folder without it is not finished.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Collection, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock
from mmcv.transforms import Resize

from mmsagan import __version__
from mmsagan.datasets.image_folder import ClassImageDataset, UnreadableImageError, read_rgb
from mmsagan.datasets.mnist import StoredDataset
from mmsagan.datasets.transforms import CenterCropLongEdge, RandomCropLongEdge
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import DATASETS
from mmsagan.utils.files import open_atomically, remove_unfinished, write_atomically
from mmsagan.utils.processes import worker_map
from mmsagan.utils.progress import progress_bar

SIZES, LABELS, RECIPE = 'sizes.npy', 'labels.npy', 'recipe.json'
JOB, LOCK = 'packing.json', 'packing.lock'  # exist only while the folder is not finished
FORMAT, VERSION = 'mmsagan packed images', 2
LAYOUTS = ('square', 'short-side')
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')
COMMAND = 'mmsagan pack'
MAX_RATIO = 64  # of an image's sides; a longer one might not fit into memory when its short side is resized
MAX_SHARDS, MIN_SHARD_IMAGES = 128, 64  # an open data set takes one file descriptor per shard
_CROPS = {'random': RandomCropLongEdge, 'center': CenterCropLongEdge}


def load_recipe(folder: Path) -> dict:
    """Reads and validates the recipe of a packed data set. Raises a DataError if there is none, or a damaged one."""
    path = folder / RECIPE
    try:
        recipe = json.loads(path.read_bytes())
        if (recipe['format'], recipe['version']) != (FORMAT, VERSION):
            raise ValueError(f'version {recipe["version"]!r:.50} of {recipe["format"]!r:.50}')
        others = {name for name in recipe['files'] if not re.fullmatch(r'images_\d+\.npy', name)}
        if others != ({LABELS, SIZES} if recipe['job']['layout'] == 'short-side' else {LABELS}):
            raise ValueError('the files are not those of its layout')
        return recipe
    except OSError as error:
        hint = 'packing is not finished; run the same command again' if (folder / JOB).is_file() else 'set data_root'
        raise DataError(f'{folder} is not a packed data set of {COMMAND} ({error.strerror}: {RECIPE}); {hint}') from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # the last one: deeply nested lists
        raise DataError(f'{path} is damaged or of another version ({error}); pack the images again with {COMMAND}') from error


class MappedArray:
    """The array in an ``.npy`` file, mapped into memory. Copies and pickles map the file again and do not copy its content."""

    def __init__(self, path: Path):
        self.path = path
        self.pixels = np.asarray(np.load(path, mmap_mode='r', allow_pickle=False)).reshape(-1)

    def __reduce__(self):
        return MappedArray, (self.path,)


@DATASETS.register_module()
class PackedImages(StoredDataset):
    """A packed data set. The pipeline needs no more than ``RandomFlip`` and ``PackInputs``.

    Args:
        crop: Where the long edge is cropped: ``'center'``, or ``'random'``, uniformly, which needs the layout ``short-side``.
            With a ``RandomFlip`` in the pipeline, a whole batch draws all crops before the flips.
        **kwargs: See :class:`~mmsagan.datasets.image_folder.ClassImageDataset`. ``ann_file`` and ``data_prefix`` are ignored,
            so that a config of ``ImageNet`` only needs another ``type``, ``data_root`` and ``pipeline``.
    """

    def __init__(self, data_root: str, crop: str = 'center', **kwargs):
        if crop not in _CROPS:
            raise ConfigError(f"PackedImages: crop must be 'random' or 'center', got {crop!r}")
        self.crop = crop
        super().__init__(data_root=data_root, **dict(kwargs, serialize_data=False))

    def load_data_list(self) -> range:
        folder = Path(self.data_root)
        recipe = load_recipe(folder)
        if self.crop == 'random' and recipe['job']['layout'] == 'square':
            raise ConfigError(f"{self.name}: crop='random' needs whole images; pack them with --layout short-side")
        try:
            arrays = {}
            for name, note in recipe['files'].items():
                if (folder / name).stat().st_size != note['bytes']:
                    raise ValueError(f'{name} does not have {note["bytes"]} bytes')
                if name in (LABELS, SIZES):  # small enough to compare their checksums
                    data = (folder / name).read_bytes()
                    if hashlib.sha256(data).hexdigest() != note['sha256']:
                        raise ValueError(f'{name} has another sha256 than the recipe says')
                    arrays[name] = np.load(io.BytesIO(data), allow_pickle=False)
            self.image_size, self.labels = recipe['job']['size'], arrays[LABELS]
            self._sizes = arrays.get(SIZES, np.broadcast_to(np.int64(self.image_size), (len(self.labels), 2)))
            self._shards = [MappedArray(folder / name) for name in sorted({*recipe['files']} - {LABELS, SIZES})]
            # Where images and shards end, counted in bytes from the first image.
            self._ends = np.cumsum(3 * self._sizes.prod(axis=1))
            self._shard_ends = np.cumsum([shard.pixels.size for shard in self._shards])
            are_whole = self._shard_ends[-1] == self._ends[-1] and np.isin(self._shard_ends, np.append(self._ends, 0)).all()
            if not are_whole or len(self._sizes) != len(self.labels) or (self._sizes.min(axis=1) != self.image_size).any():
                raise ValueError('the sizes of the images, their number and the shards do not match')
            self.set_classes(list(recipe['classes']), self.labels)
        except Exception as error:  # numpy raises an EOFError for an empty file, for instance
            raise DataError(f'{folder} is damaged: {error}; pack the images again with {COMMAND}') from error
        return range(len(self.labels))

    def read_images(self, numbers: Sequence[int]) -> np.ndarray:
        size, crop = self.image_size, _CROPS[self.crop]()
        images = np.empty((len(numbers), 3, size, size), np.uint8)
        ends = self._ends[numbers]
        shards = np.searchsorted(self._shard_ends, ends)
        stops = ends - self._shard_ends[shards]  # counted from the end of the shard
        for image, shard, stop, (height, width) in zip(images, shards.tolist(), stops.tolist(), self._sizes[numbers].tolist()):
            pixels = self._shards[shard].pixels
            stop += len(pixels)
            rectangle = pixels[stop - 3 * height * width : stop].reshape(3, height, width)
            if height != width or self.crop == 'random':  # which draws random numbers for squares, too
                top, left = crop.get_offset(height - size), crop.get_offset(width - size)
                rectangle = rectangle[:, top : top + size, left : left + size]
            image[...] = rectangle
        return images


def pack_dataset(
    dataset: ClassImageDataset,
    out: str | Path,
    size: int = 128,
    layout: str = 'square',
    interpolation: str = 'bilinear',
    workers: int = 1,
) -> dict:
    """Packs a data set and returns the recipe. A folder where it was interrupted is completed, a finished one is verified.

    Args:
        dataset: A data set without a pipeline. Its ``max_unreadable_share`` limits how many images are skipped.
        size: Side of the squares, or short side of the rectangles, in pixels.
        layout: One of :data:`LAYOUTS`; ``interpolation`` is one of :data:`INTERPOLATIONS`.
        workers: Number of processes; the result does not depend on it.
    """
    out, root = Path(out), Path(dataset.data_prefix.get('img_path') or dataset.data_root)
    classes = list(dataset.metainfo['classes'])
    if 'img_path' not in dataset.get_data_info(0):
        raise ConfigError(f'{dataset.name} has its images in memory: only image files are packed')
    if not dataset.ann_file and out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f'{out} is inside {root}, where it would be taken for a class; choose another --out')
    names, labels, digest = [], [], hashlib.sha256(json.dumps(classes).encode())
    for entry in map(dataset.get_data_info, range(len(dataset))):
        names.append(entry['img_path'].removeprefix(f'{root}{os.sep}').replace(os.sep, '/'))
        labels.append(entry['gt_label'])
        digest.update(f'{names[-1]} {labels[-1]}\n'.encode(errors='surrogateescape'))
    job = dict(
        source=root.resolve().name,
        source_images=len(dataset),
        source_sha256=digest.hexdigest(),
        layout=layout,
        size=size,
        interpolation=interpolation,
        mmsagan=__version__,
        pillow=PIL.__version__,
    )
    is_finished, is_begun = (out / RECIPE).is_file(), (out / JOB).is_file()
    if not (is_finished or is_begun) and (out.is_file() or {path.name for path in out.glob('[!.]*')} - {LOCK}):
        raise ConfigError(f'{out} is a file, or contains something else; choose another --out')
    recipe = load_recipe(out) if is_finished else {}
    found = recipe['job'] if is_finished else json.loads((out / JOB).read_bytes()) if is_begun else job
    for key, value in job.items():
        # Other versions of the packages have packed the same images.
        if found.get(key) != value and not (is_finished and key in ('mmsagan', 'pillow')):
            raise ConfigError(f'{out} is packed with {key}={found.get(key)!r}, not {value!r}; delete it or change --out')
    if is_finished:
        for name, note in _describe_files(out, recipe['files']).items():
            if recipe['files'][name] != note:
                raise DataError(f'{out / name} is missing or damaged; delete {out} and pack the images again')
        return recipe
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / LOCK, timeout=0):
            remove_unfinished(out)
            write_atomically(out / JOB, json.dumps(job).encode())
            notes = _write_shards(dataset, out, job, workers)
            kept = [index for index, note in enumerate(notes) if isinstance(note, list)]
            dataset.set_classes(classes, [labels[index] for index in kept])
            arrays = {LABELS: [labels[index] for index in kept]}
            if layout == 'short-side':
                arrays[SIZES] = [notes[index] for index in kept]
            for name, array in arrays.items():
                with open_atomically(out / name) as file:
                    np.save(file, np.array(array, np.int64))
            recipe = dict(
                job=job,
                num_images=len(kept),
                classes=classes,
                skipped=[name for name, note in zip(names, notes) if isinstance(note, str)],
                files=_describe_files(out, [*sorted(path.name for path in out.glob('images_*.npy')), *sorted(arrays)]),
                format=FORMAT,
                version=VERSION,
            )
            write_atomically(out / RECIPE, (json.dumps(recipe, indent=1) + '\n').encode())
            for path in [out / JOB, out / LOCK, *out.glob('images_*.json')]:
                path.unlink(missing_ok=True)
            return recipe
    except OSError as error:  # a lock that another process holds is one, too
        raise ConfigError(f'{out} cannot be written: {error.strerror or error}; then run the same command again') from error


def _write_shards(dataset: ClassImageDataset, out: Path, job: dict, workers: int) -> list:
    """Writes the missing shards and returns the notes of :func:`_write_shard` about all images."""
    step = max(MIN_SHARD_IMAGES, -(-len(dataset) // MAX_SHARDS))
    starts = range(0, len(dataset), step)
    shards = {out / f'images_{start // step:03d}.npy': range(len(dataset))[start : start + step] for start in starts}
    missing = [path for path in shards if not path.with_suffix('.json').is_file()]
    sources = ([dataset.get_data_info(index)['img_path'] for index in shards[path]] for path in missing)
    all_notes = []
    with progress_bar('packing', len(dataset)) as advance, worker_map(min(workers, len(missing) or 1)) as parallel_map:
        results = parallel_map(_write_shard, missing, repeat(job), sources)
        for path, indices in shards.items():
            notes = next(results) if path in missing else json.loads(path.with_suffix('.json').read_bytes())
            for index, note in zip(indices, notes):
                if isinstance(note, str):
                    dataset.report_unreadable(UnreadableImageError(dataset.get_data_info(index)['img_path'], note))
            all_notes += notes
            advance(len(indices))
    return all_notes


def _write_shard(path: Path, job: dict, sources: Sequence[str]) -> list:
    """Writes a shard, and then notes about its images, which mark it as finished: height and width, or what is wrong."""
    size, is_square = job['size'], job['layout'] == 'square'
    scale = (size, size) if is_square else (np.inf, size)
    resize = Resize(scale, keep_ratio=not is_square, interpolation=job['interpolation'], backend='pillow')
    notes: list = []
    with open_atomically(path) as file:
        # numpy leaves room in the header for the number of images, which is known in the end.
        header = dict(descr='|u1', fortran_order=False, shape=(0, 3, size, size) if is_square else (0,))
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for source in sources:
            try:
                image = read_rgb(source)
            except UnreadableImageError as error:
                notes.append(error.reason)
                continue
            height, width = image.shape[:2]
            if not is_square and max(height, width) > MAX_RATIO * min(height, width):
                notes.append(f'{width}x{height} pixels, one side more than {MAX_RATIO} times the other')
                continue
            results = CenterCropLongEdge()(dict(img=image)) if is_square else dict(img=image)
            image = resize(results)['img']
            file.write(image.transpose(2, 0, 1).tobytes())
            notes.append(list(image.shape[:2]))
        length = file.tell() - start
        file.seek(0)
        shape = (length // (3 * size**2), 3, size, size) if is_square else (length,)
        np.lib.format.write_array_header_1_0(file, dict(header, shape=shape))
    write_atomically(path.with_suffix('.json'), json.dumps(notes).encode())
    return notes


def _describe_files(folder: Path, names: Collection[str]) -> dict[str, dict]:
    """Returns size and sha256 of files; nothing of those that are missing or empty."""
    files: dict[str, dict] = dict.fromkeys(names, {})
    with progress_bar('sha256', len(files)) as advance:
        for path in (folder / name for name in names if (folder / name).is_file() and (folder / name).stat().st_size):
            data = np.memmap(path, np.uint8, 'r')
            files[path.name] = dict(bytes=data.size, sha256=hashlib.sha256(data).hexdigest())
            advance(1)
    return files
