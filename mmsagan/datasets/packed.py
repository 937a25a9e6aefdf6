"""Packed data sets: images that are decoded and resized once, in files that are mapped into memory.

:func:`pack_dataset`, or ``tools/dataset_converters/pack_images.py``, writes a folder with

* ``images_000.npy``, ``images_001.npy``, ...: the images in shards, uint8 RGB, channels first; (n, 3, S, S) with the layout
  ``square``. With ``short-side``, the rectangles (3, H, W) one after the other, flat. Version 1 has a single ``images.npy``.
* ``sizes.npy``: H and W of each rectangle (N, 2), one of them S; only with ``short-side``.
* ``labels.npy``: classes (N,) int64.
* ``recipe.json``: how the images were made (``job``), ``num_images``, ``classes``, which images were ``skipped`` because they
  cannot be read, and size and sha256 of the ``files``. It is written last: a folder without it is not finished.

``square`` is the center square of each image, resized; bit for bit what decoding, ``CenterCropLongEdge`` and ``Resize`` return.
``short-side`` is the whole image, its short side resized to S. Its long edge is cropped when it is read, at random or at the
center. This is nearly, but not bit for bit, the same as cropping before resizing. Images whose long side is more than 64 times
the short one are skipped.
"""

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from shutil import disk_usage

import numpy as np
import PIL
from filelock import FileLock
from mmcv.transforms import Resize

from mmsagan import __version__
from mmsagan.datasets.check import describe_duplicates, find_duplicates, hash_image
from mmsagan.datasets.image_folder import ClassImageDataset, UnreadableImageError, read_rgb
from mmsagan.datasets.mnist import StoredDataset
from mmsagan.datasets.transforms import CenterCropLongEdge, LoadImageFromFile, RandomCropLongEdge
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import DATASETS
from mmsagan.utils.files import remove_unfinished, write_atomically
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
        if recipe['format'] != FORMAT or recipe['version'] not in (1, VERSION):
            raise ValueError(f'version {recipe["version"]!r:.50} of {recipe["format"]!r:.50}')
        layout, classes = recipe['job']['layout'], recipe['classes']
        files = {LABELS, SIZES, *_shards(recipe)} if layout == 'short-side' else {LABELS, *_shards(recipe)}
        are_names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        if layout not in LAYOUTS or set(recipe['files']) != files or not are_names:
            raise ValueError('layout, files or classes are wrong')
        return recipe
    except OSError as error:
        hint = 'packing is not finished; run the same command again' if (folder / JOB).is_file() else 'set data_root'
        raise DataError(f'{folder} is not a packed data set of {COMMAND} ({error.strerror}: {RECIPE}); {hint}') from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # the last one: deeply nested lists
        raise DataError(f'{path} is damaged or of another version ({error}); pack the images again with {COMMAND}') from error


def _shards(recipe: dict) -> list[str]:
    return sorted(name for name in recipe['files'] if re.fullmatch(r'images(_\d+)?\.npy', name))


# ------------------------------------------------------------------------------------------------------------------- reading


class MappedArray:
    """The array in an ``.npy`` file, mapped into memory. Copies and pickles map the file again and do not copy its content."""

    def __init__(self, path: Path):
        self.path = path
        self.array = np.asarray(np.load(path, mmap_mode='r', allow_pickle=False))
        self.pixels = self.array.reshape(-1)

    def __reduce__(self):
        return MappedArray, (self.path,)


@DATASETS.register_module()
class PackedImages(StoredDataset):
    """A packed data set, see :mod:`mmsagan.datasets.packed`.

    Its images are decoded, cropped and resized, so that the pipeline needs no more than ``RandomFlip`` and ``PackInputs``.

    Args:
        data_root: Folder of the packed data set.
        crop: Where the long edge is cropped: ``'center'``, or ``'random'``, uniformly, which needs the layout ``short-side``.
            With a ``RandomFlip`` in the pipeline, a whole batch draws all crops before the flips.
        **kwargs: See :class:`~mmsagan.datasets.image_folder.ClassImageDataset`. ``ann_file`` and ``data_prefix`` are ignored,
            so that a config of ``ImageNet`` only needs another ``type``, ``data_root`` and ``pipeline``.

    Raises:
        ConfigError: The crop is not possible, or the pipeline decodes files or crops at random.
        DataError: The folder is not finished, damaged, or something else.
    """

    def __init__(self, data_root: str, crop: str = 'center', **kwargs):
        if crop not in _CROPS:
            raise ConfigError(f"PackedImages: crop must be 'random' or 'center', got {crop!r}")
        self.crop = crop
        super().__init__(data_root=data_root, **dict(kwargs, serialize_data=False))
        for transform in self.pipeline.transforms:
            if isinstance(transform, (LoadImageFromFile, RandomCropLongEdge)):
                raise ConfigError(
                    f'PackedImages: remove {type(transform).__name__} from the pipeline; the images are decoded, cropped and '
                    "resized already. For random crops set crop='random'"
                )

    @staticmethod
    def content_of(config: Mapping) -> dict:
        """Returns what tells the images of a packed data set apart from others, but is not in its config."""
        recipe = load_recipe(Path(config.get('data_root', '')))
        keys = ('source_sha256', 'layout', 'size', 'interpolation')
        return dict(images=recipe['num_images'], **{key: recipe['job'].get(key) for key in keys})

    def load_data_list(self) -> range:
        """Opens the files, compares them with the recipe, and returns the numbers of the images."""
        folder = Path(self.data_root)
        recipe = load_recipe(folder)
        if self.crop == 'random' and recipe['job']['layout'] == 'square':
            raise ConfigError(f"{self.name}: crop='random' needs whole images; pack them with --layout short-side")
        try:
            self._map(folder, recipe)
        except Exception as error:  # numpy raises an EOFError for an empty file, for instance
            raise DataError(f'{folder} is damaged: {error}; pack the images again with {COMMAND}') from error
        self.set_classes(recipe['classes'], self.labels)
        return range(len(self.labels))

    def _map(self, folder: Path, recipe: dict) -> None:
        """Maps the shards and loads the other files, which are small enough to compare their checksums."""
        for name, note in recipe['files'].items():
            if (folder / name).stat().st_size != note['bytes']:
                raise ValueError(f'{name} does not have {note["bytes"]} bytes')
        count, size, is_square = recipe['num_images'], recipe['job']['size'], recipe['job']['layout'] == 'square'
        self.image_size = size
        self.labels = _load_checked(folder / LABELS, recipe, (count,))
        if is_square:
            self._sizes = np.broadcast_to(np.int64(size), (count, 2))
        else:
            self._sizes = _load_checked(folder / SIZES, recipe, (count, 2))
            if (self._sizes.min(axis=1) != size).any() or (self._sizes > MAX_RATIO * size).any():
                raise ValueError(f'{SIZES} has images whose short side is not {size}, or whose long side is too long')
        self._shards = [MappedArray(folder / name) for name in _shards(recipe)]
        for shard in self._shards:
            shape = (len(shard.array), 3, size, size) if is_square else (shard.array.size,)
            if shard.array.dtype != np.uint8 or shard.array.shape != shape:
                raise ValueError(f'{shard.path.name} is {shard.array.shape} {shard.array.dtype} instead of {shape} uint8')
        # Where images and shards end, counted in bytes from the first image.
        self._ends = np.cumsum(3 * self._sizes.prod(axis=1))
        self._shard_ends = np.cumsum([shard.array.size for shard in self._shards])
        if self._shard_ends[-1] != self._ends[-1] or not np.isin(self._shard_ends, np.append(self._ends, 0)).all():
            raise ValueError('the sizes of the images and of the shards do not match')

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


def _load_checked(path: Path, recipe: dict, shape: tuple[int, ...]) -> np.ndarray:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != recipe['files'][path.name]['sha256']:
        raise ValueError(f'{path.name} has another sha256 than the recipe says')
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype != np.int64 or array.shape != shape:
        raise ValueError(f'{path.name} is {array.shape} {array.dtype} instead of {shape} int64')
    return array


# ------------------------------------------------------------------------------------------------------------------- writing


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
        out: Folder of the packed data set.
        size: Side of the squares, or short side of the rectangles, in pixels.
        layout: One of :data:`LAYOUTS`.
        interpolation: One of :data:`INTERPOLATIONS`.
        workers: Number of processes; 1 works in this process. The result does not depend on it.

    Raises:
        ConfigError: The folder cannot be written, contains something else, or is among the images.
        DataError: Too many images cannot be read, or a finished folder is damaged.
    """
    out, root = Path(out), Path(dataset.data_prefix.get('img_path') or dataset.data_root)
    has_files = 'img_path' in dataset.get_data_info(0)
    has_list = bool(dataset.ann_file) and Path(dataset.ann_file).is_file()
    if has_files and not has_list and out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f'{out} is inside {root}, where it would be taken for a class; choose another --out')
    digest = hashlib.sha256(json.dumps(dataset.metainfo['classes']).encode())
    for index in range(len(dataset)):
        line = f'{_name_of(dataset, index)} {dataset.get_data_info(index)["gt_label"]}\n'
        digest.update(line.encode(errors='surrogateescape'))
    job = dict(
        source=root.resolve().name if has_files else dataset.name,
        source_images=len(dataset),
        source_sha256=digest.hexdigest(),
        layout=layout,
        size=size,
        interpolation=interpolation,
        mmsagan=__version__,
        pillow=PIL.__version__,
    )
    if (out / RECIPE).is_file():
        return check_packed(out, job)
    with _writing(out):
        if (out / JOB).is_file():
            _check_same_job(out, json.loads((out / JOB).read_bytes()), job)
        written = sum(path.stat().st_size for path in out.glob('images_*.npy'))
        missing, free = len(dataset) * 3 * size**2 - written, disk_usage(out).free
        if missing > free:
            raise ConfigError(f'{out}: the images need {missing / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB left')
        write_atomically(out / JOB, json.dumps(job).encode())
        return _finish(dataset, out, job, _write_shards(dataset, out, job, workers))


def _name_of(dataset: ClassImageDataset, index: int) -> str:
    """Returns the path of an image below the data set's folder, or the hash of its pixels if it is not a file."""
    entry = dataset.get_data_info(index)
    if 'img_path' not in entry:
        return hashlib.sha256(np.ascontiguousarray(entry['img'])).hexdigest()
    root = Path(dataset.data_prefix.get('img_path') or dataset.data_root)
    return entry['img_path'].removeprefix(f'{root}{os.sep}').replace(os.sep, '/')


def _check_same_job(folder: Path, found: dict, job: dict) -> None:
    for key, value in job.items():
        if found.get(key) != value:
            raise ConfigError(f'{folder} is packed with {key}={found.get(key)!r}, not {value!r}; delete it or change --out')


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Creates and locks the folder, tells the user what to fix, and removes the temporary files in the end."""
    names = {path.name for path in folder.glob('[!.]*')}
    if folder.is_file() or (names - {LOCK} and JOB not in names):
        raise ConfigError(f'{folder} is a file, or contains something else; choose another --out')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=0):
            yield
            for path in [folder / JOB, folder / LOCK, *folder.glob('images_*.json')]:
                path.unlink(missing_ok=True)
            remove_unfinished(folder)
    except OSError as error:  # a lock that another process holds is one, too
        raise ConfigError(f'{folder} cannot be written: {error.strerror or error}; then run the same command again') from error
    except (BrokenProcessPool, MemoryError) as error:
        raise DataError(
            f'{folder}: a process has died, perhaps of a lack of memory; run the same command again with fewer --workers'
        ) from error


def _write_shards(dataset: ClassImageDataset, out: Path, job: dict, workers: int) -> list:
    """Writes the missing shards and returns the notes of :func:`_write_shard` about all images."""
    step = max(MIN_SHARD_IMAGES, -(-len(dataset) // MAX_SHARDS))
    starts = range(0, len(dataset), step)
    shards = {out / f'images_{start // step:03d}.npy': range(len(dataset))[start : start + step] for start in starts}
    missing = [path for path in shards if not path.with_suffix('.json').is_file()]
    entries = ([dataset.get_data_info(index) for index in shards[path]] for path in missing)
    all_notes = []
    with progress_bar('packing', len(dataset)) as advance, worker_map(min(workers, len(missing) or 1)) as map:
        results = map(_write_shard, missing, repeat(job), entries)
        for path, indices in shards.items():
            notes = next(results) if path in missing else json.loads(path.with_suffix('.json').read_bytes())
            for index, note in zip(indices, notes):
                if isinstance(note, str):
                    name = dataset.get_data_info(index).get('img_path', str(index))
                    dataset.report_unreadable(UnreadableImageError(name, note))
                else:
                    dataset.unreadable_in_a_row = 0
            all_notes += notes
            advance(len(indices))
    return all_notes


def _write_shard(path: Path, job: dict, entries: Sequence[dict]) -> list:
    """Writes a shard, and then notes about its images, which mark it as finished: height, width and hash, or what is wrong."""
    size, is_square = job['size'], job['layout'] == 'square'
    scale = (size, size) if is_square else (np.inf, size)
    resize = Resize(scale, keep_ratio=not is_square, interpolation=job['interpolation'], backend='pillow')
    notes: list = []
    unfinished = path.with_suffix('.unfinished')
    with unfinished.open('wb') as file:
        header_size = file.write(_npy_header((0,)))
        for entry in entries:
            try:
                image = entry['img'] if 'img' in entry else read_rgb(entry['img_path'])
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
            notes.append([*image.shape[:2], hash_image(image).hex()])
        count = sum(isinstance(note, list) for note in notes)
        shape = (count, 3, size, size) if is_square else (file.tell() - header_size,)
        file.seek(0)
        file.write(_npy_header(shape))
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    write_atomically(path.with_suffix('.json'), json.dumps(notes).encode())
    return notes


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Returns the header of an ``.npy`` file of uint8: 128 bytes for any shape, so that it can be written in the end."""
    content = repr(dict(descr='|u1', fortran_order=False, shape=shape)).ljust(117) + '\n'
    return np.lib.format.magic(1, 0) + len(content).to_bytes(2, 'little') + content.encode()


def _finish(dataset: ClassImageDataset, out: Path, job: dict, notes: list) -> dict:
    """Writes the other files, ``recipe.json`` last."""
    kept = [index for index, note in enumerate(notes) if isinstance(note, list)]
    skipped = [_name_of(dataset, index) for index, note in enumerate(notes) if isinstance(note, str)]
    labels = [dataset.get_data_info(index)['gt_label'] for index in kept]
    dataset.set_classes(dataset.metainfo['classes'], labels)
    groups = find_duplicates([notes[index][2] for index in kept])
    if groups:
        text = describe_duplicates(groups, labels, lambda number: _name_of(dataset, kept[number]))
        warnings.warn(f'{dataset.name}: {text}', stacklevel=2)
    arrays = {LABELS: labels}
    if job['layout'] == 'short-side':
        arrays[SIZES] = [notes[index][:2] for index in kept]
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, np.array(array, np.int64))
        write_atomically(out / name, buffer.getvalue())
    names = [path.name for path in sorted(out.glob('images_*.npy'))]
    recipe = dict(
        job=job,
        num_images=len(kept),
        classes=list(dataset.metainfo['classes']),
        skipped=skipped,
        files=_hash_files(out, [*names, *sorted(arrays)]),
        format=FORMAT,
        version=VERSION,
    )
    write_atomically(out / RECIPE, (json.dumps(recipe, indent=1) + '\n').encode())
    return recipe


def _hash_files(folder: Path, names: Collection[str]) -> dict[str, dict]:
    files: dict[str, dict] = dict.fromkeys(names, {})
    with progress_bar('sha256', len(files)) as advance:
        for path in (folder / name for name in names if (folder / name).is_file()):
            digest = hashlib.sha256()
            with path.open('rb') as file:
                while data := file.read(1 << 24):
                    digest.update(data)
                files[path.name] = dict(bytes=file.tell(), sha256=digest.hexdigest())
            advance(1)
    return files


def check_packed(folder: Path, job: dict) -> dict:
    """Compares all bytes of a finished folder with its recipe, and the recipe, which it returns, with a job."""
    recipe = load_recipe(folder)
    # Other versions of the packages have packed the same images.
    versions = {key: recipe['job'].get(key) for key in ('mmsagan', 'pillow')}
    _check_same_job(folder, recipe['job'], job | versions)
    for name, note in _hash_files(folder, recipe['files']).items():
        if recipe['files'][name] != note:
            raise DataError(f'{folder / name} is missing or damaged; delete {folder} and pack the images again')
    return recipe
