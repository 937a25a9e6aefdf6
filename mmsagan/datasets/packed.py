"""Packed data sets: decoded and resized images in one file that is mapped into memory.

``tools/dataset_converters/pack_images.py`` writes them, see :mod:`mmsagan.datasets.packing`. A folder holds

* ``images.npy``: uint8 RGB, channels first; (N, 3, S, S) of the layout ``square``. Of ``short-side``, all rectangles
  (3, H, W) one after the other, flat.
* ``sizes.npy``: H and W of each rectangle (N, 2), one of them S; of ``short-side`` only.
* ``labels.npy``: classes (N,) int64.
* ``recipe.json``: class names, how the images were made, which ones were skipped, size and sha256 of the files. It is written
  last: a folder without it is not finished.

``square`` is the centre square of every image, resized: to the bit what decoding, ``CenterCropLongEdge`` and ``Resize`` give.
``short-side`` is the whole image, with its short side resized to S, and its long edge is cropped when it is read, at random or
in the middle; images more than 64 times as long as wide are left out. Resizing before cropping gives nearly, but not to the
bit, what cropping before resizing gives: offsets are whole pixels of the small image, and pixels beyond the crop's edges have
had their share in those beside them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmsagan.datasets.arrays import StoredDataset
from mmsagan.datasets.transforms import CenterCropLongEdge, LoadImageFromFile, RandomCropLongEdge
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import DATASETS

IMAGES, SIZES, LABELS, RECIPE = 'images.npy', 'sizes.npy', 'labels.npy', 'recipe.json'
JOURNAL = 'packing.jsonl'  # there while the folder is not finished
FORMAT, VERSION = 'mmsagan packed images', 1
LAYOUTS = ('square', 'short-side')
TOOL = 'mmsagan pack'
MAX_RATIO = 64  # longer images, compared with their short side, are not packed: they might not fit into memory
_CROPS = {'random': RandomCropLongEdge, 'center': CenterCropLongEdge}


@dataclass(frozen=True)
class Job:
    """What is packed, and how: the same job writes the same bytes.

    Args:
        source: Name of the folder of images.
        source_images: How many images it lists.
        source_sha256: Sum of their names, in order, and of their classes; files' contents are not part of it.
        layout: One of :data:`LAYOUTS`.
        size: S, in pixels.
        interpolation: Pillow's, by name.
        mmsagan: Version of this package.
        pillow: Version of Pillow, which decodes and resizes.
    """

    source: str
    source_images: int
    source_sha256: str
    layout: str
    size: int
    interpolation: str
    mmsagan: str
    pillow: str


@dataclass(frozen=True)
class Recipe:
    """What a packed data set holds, and how it was made.

    Args:
        job: How.
        num_images: N.
        classes: Their names.
        skipped: Names of the images that could not be read.
        files: ``bytes`` and ``sha256`` of each file, by its name.
    """

    job: Job
    num_images: int
    classes: list[str]
    skipped: list[str]
    files: dict[str, dict]
    format: str = field(default=FORMAT)
    version: int = field(default=VERSION)

    def to_bytes(self) -> bytes:
        """The content of ``recipe.json``."""
        return (json.dumps(asdict(self), indent=1) + '\n').encode()

    @classmethod
    def load(cls, folder: Path) -> 'Recipe':
        """Reads a folder's recipe.

        Raises:
            DataError: There is none, or it is damaged or of another version.
        """
        path = folder / RECIPE
        try:
            content = json.loads(path.read_bytes())
            if content['format'] == FORMAT and content['version'] != VERSION:
                raise DataError(
                    f'{path}: version {content["version"]} of the format, this is mmsagan for {VERSION}; pack again'
                )
            recipe = cls(**dict(content, job=Job(**content['job'])))
            recipe._check()
            return recipe
        except OSError as error:
            raise DataError(_not_packed(folder, error)) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:  # the last one of deeply nested lists
            raise DataError(
                f'{path} is damaged or not the recipe of a packed data set ({error}); pack again by {TOOL}'
            ) from error

    def _check(self) -> None:
        """Raises a ValueError or TypeError if a value is not of its kind."""
        names = {IMAGES, LABELS} | ({SIZES} if self.job.layout == 'short-side' else set())
        if self.format != FORMAT or self.job.layout not in LAYOUTS or set(self.files) != names:
            raise ValueError('it describes something else')
        numbers = [self.num_images, self.job.size, *(note['bytes'] for note in self.files.values())]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError('a number of images, pixels or bytes is none')
        texts = [*self.classes, *self.skipped, *(note['sha256'] for note in self.files.values())]
        if not all(isinstance(text, str) for text in texts) or isinstance(self.classes, str):
            raise ValueError('a name or a sum is no text')


def _not_packed(folder: Path, error: OSError) -> str:
    if (folder / JOURNAL).is_file():
        return f'{folder}: packing was not finished; run the same command again ({TOOL}), it goes on where it was'
    return f'{folder}: no packed data set ({error.strerror}: {RECIPE}); make one by {TOOL}, or set data_root'


class MappedArray:
    """An ``.npy`` file's array, mapped into memory. Copies and pickles map the file anew, and do not take its content along.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.array = np.asarray(np.load(path, mmap_mode='r', allow_pickle=False))

    def __reduce__(self):
        return MappedArray, (self.path,)


@DATASETS.register_module()
class PackedImages(StoredDataset):
    """A packed data set, see :mod:`mmsagan.datasets.packed`.

    Its images are decoded, cropped and resized: of the pipeline remain ``RandomFlip``, which whole batches get at once, and
    ``PackInputs``.

    Args:
        data_root: Folder of the packed data set.
        crop: ``'center'``, or ``'random'``: a crop of the long edge that starts at a uniformly random place, which only the
            layout ``short-side`` has. With a ``RandomFlip`` in the pipeline, whole batches draw all their crops first.
        **kwargs: See :class:`~mmsagan.datasets.arrays.StoredDataset`. ``ann_file`` and ``data_prefix`` mean nothing here, so
            that a config of ``ImageNet`` becomes one of this by another ``type``, ``data_root`` and ``pipeline``.

    Raises:
        ConfigError: The crop is not to be had, or the pipeline decodes files or crops them at random.
        DataError: The folder is not finished, damaged, or something else.

    Example:
        >>> dataset = PackedImages(data_root='data/imagenet_packed_128', pipeline=[dict(type='PackInputs')])
        >>> dataset[0]['inputs'].shape
        torch.Size([3, 128, 128])
    """

    def __init__(self, data_root: str, crop: str = 'center', **kwargs):
        if crop not in _CROPS:
            raise ConfigError(f"PackedImages: crop must be 'random' or 'center', got {crop!r}")
        self.crop = crop
        super().__init__(data_root=data_root, **kwargs)
        if any(isinstance(transform, LoadImageFromFile) for transform in self.pipeline.transforms):
            raise ConfigError(
                'PackedImages: its images are decoded, cropped and resized already; take LoadImageFromFile and what belongs to '
                "it out of the pipeline, pipeline=[dict(type='PackInputs')]"
            )
        if any(isinstance(transform, RandomCropLongEdge) for transform in self.pipeline.transforms):
            raise ConfigError(
                'PackedImages: its images are square when transforms get them, and RandomCropLongEdge has nothing to crop; set '
                "crop='random' in its place"
            )

    @staticmethod
    def content_of(config: Mapping) -> dict:
        """What a packed data set holds, by its recipe, which the config does not say: tells statistics of its images apart.

        Args:
            config: Of the data set.

        Raises:
            DataError: There is no recipe.
        """
        recipe = Recipe.load(Path(config.get('data_root', '')))
        job = asdict(recipe.job)
        return dict(images=recipe.num_images, **{key: job[key] for key in ('source_sha256', 'layout', 'size', 'interpolation')})

    def load_data_list(self) -> range:
        """Opens the files and compares them with the recipe; gives the images' numbers."""
        folder = Path(self.data_root)
        recipe = Recipe.load(folder)
        self.image_size = recipe.job.size
        if self.crop == 'random' and recipe.job.layout == 'square':
            raise ConfigError(
                f"{self.name}: crop='random' needs the whole images, and these are packed as squares; pack them with --layout "
                "short-side, or set crop='center'"
            )
        try:
            self._open(folder, recipe)
        except Exception as error:  # numpy raises an EOFError of an empty file, for instance
            raise DataError(f'{folder}: damaged, {error}; pack again by {TOOL}') from error
        self.describe(recipe.classes, self.labels)
        return range(recipe.num_images)

    def _open(self, folder: Path, recipe: Recipe) -> None:
        """Maps the images; the other files are small enough to be compared with their sums.

        Raises:
            ValueError, OSError: A file is missing, truncated, or not what the recipe says.
        """
        for name, note in recipe.files.items():
            size = (folder / name).stat().st_size
            if size != note['bytes']:
                raise ValueError(f'{name} has {size} bytes instead of {note["bytes"]}')
        count, size = recipe.num_images, recipe.job.size
        self.labels = _load_checked(folder / LABELS, recipe, np.int64, (count,))
        self._mapped = MappedArray(folder / IMAGES)
        expected: tuple[int, ...] = (count, 3, size, size)
        self._sizes = None
        if recipe.job.layout == 'short-side':
            self._sizes = _load_checked(folder / SIZES, recipe, np.int64, (count, 2))
            if count and (self._sizes.min(axis=1) != size).any():
                raise ValueError(f'{SIZES} has images whose short side is not {size}')
            if count and self._sizes.max() > MAX_RATIO * size:
                raise ValueError(f'{SIZES} has images more than {MAX_RATIO} times as long as wide')
            self._ends = np.cumsum(3 * self._sizes.prod(axis=1))
            expected = (int(self._ends[-1]) if count else 0,)
        _check(self._mapped.array, IMAGES, np.uint8, expected)

    def read_images(self, numbers: Sequence[int]) -> np.ndarray:
        if self._sizes is None:
            return self._mapped.array[numbers]
        size, offset = self.image_size, _CROPS[self.crop]().offset
        images = np.empty((len(numbers), 3, size, size), np.uint8)
        for image, number in zip(images, numbers):
            height, width = self._sizes[number].tolist()
            end = self._ends[number]
            rectangle = self._mapped.array[end - 3 * height * width : end].reshape(3, height, width)
            top, left = offset(height - size), offset(width - size)
            image[...] = rectangle[:, top : top + size, left : left + size]
        return images


def _load_checked(path: Path, recipe: Recipe, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != recipe.files[path.name]['sha256']:
        raise ValueError(f'{path.name} has another sha256 than the recipe says')
    array = np.load(path, allow_pickle=False)
    _check(array, path.name, dtype, shape)
    return array


def _check(array, name: str, dtype: type, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise ValueError(f'{name} is no .npy file')
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f'{name} is {array.shape} {array.dtype} instead of {shape} {np.dtype(dtype)}')
