"""Class-labelled images: the base class of all data sets, folders of image files, and decoding."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from PIL import ExifTags, Image, ImageOps

from mmsagan.errors import DataError
from mmsagan.registry import DATASETS

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff', '.ppm', '.pgm')
# What these files contain. Pillow reads more formats, PostScript among them, which is a programming language.
FORMATS = ('JPEG', 'PNG', 'BMP', 'DIB', 'GIF', 'PPM', 'WEBP', 'TIFF')
# Pillow's default limit (half a gigabyte decoded), which other code may have lifted; from half of it on, Pillow warns.
MAX_PIXELS = 178_956_970
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


class UnreadableImageError(Exception):
    """An image file cannot be decoded."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason


# --------------------------------------------------------------------------------------------------------------- image files


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Opens an image file of any of :data:`FORMATS`, and reads its header. Of several frames, the first one is used.

    Raises:
        UnreadableImageError: The file is missing, damaged, of another format or has more than :data:`MAX_PIXELS` pixels; or it
            cannot be decoded in the body of the ``with`` statement.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS:
                raise ValueError(f'{image.width}x{image.height} pixels, at most {MAX_PIXELS} are decoded')
            yield image
    except MemoryError:
        raise  # not the file's fault
    except Exception as error:  # decoders raise nearly anything; damaged Exif data, a struct.error
        raise UnreadableImageError(str(path), str(error) or type(error).__name__) from error


def read_rgb(path: str | Path) -> np.ndarray:
    """Decodes an image file to RGB (H, W, 3) uint8 in its Exif orientation. Raises an UnreadableImageError."""
    with open_image(path) as image:
        return np.asarray(to_rgb(ImageOps.exif_transpose(image)))


def size_of(path: str | Path) -> tuple[int, int]:
    """Returns width and height of an image file in its Exif orientation. Raises an UnreadableImageError."""
    with open_image(path) as image:
        # A PNG without Exif data would be read to its end in search of it.
        if 'exif' in image.info or image.format == 'TIFF':
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                return ImageOps.exif_transpose(image).size
        return image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts a Pillow image of any mode to RGB: transparency is composed on white, 16-bit grey is scaled to 8 bits."""
    if image.mode.startswith('I;16') or image.mode == 'I':
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')


def find_images(folder: str | Path) -> list[Path]:
    """Returns the paths of all images below a folder, sorted; files are recognized by :data:`IMAGE_SUFFIXES`."""
    return sorted(path for path in Path(folder).rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)


def find_classes(folder: str | Path) -> dict[str, list[Path]]:
    """Returns the images of every class of ``folder/<class>/**/<image>``, sorted; hidden folders are not classes."""
    classes = sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith('.'))
    return {name: find_images(Path(folder, name)) for name in classes}


# ----------------------------------------------------------------------------------------------------------------- data sets


class ClassImageDataset(BaseDataset):
    """Base class of the data sets: MMEngine's, with ``metainfo['classes']`` and a label ``gt_label`` for every image.

    An unreadable image is named in a warning and replaced by a random other one. It is an error in ``test_mode``, or if there
    are too many.

    Args:
        data_root: Folder of the data set.
        data_prefix: Folder of the images below it.
        pipeline: Transforms.
        max_unreadable_share: Share of images that may be unreadable, in [0, 1], per data loader process.
        allow_empty_classes: Whether classes may be without images.
        **kwargs: See ``mmengine.dataset.BaseDataset``.

    Raises:
        DataError: The data is missing or damaged, a class has no images, or a label is out of range.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | dict | None = '',
        pipeline: Sequence = (),
        max_unreadable_share: float = 0.01,
        allow_empty_classes: bool = False,
        **kwargs,
    ):
        self.max_unreadable_share = max_unreadable_share
        self.allow_empty_classes = allow_empty_classes
        self.unreadable: set[str] = set()
        self.unreadable_in_a_row = 0
        prefix = data_prefix if isinstance(data_prefix, Mapping) else dict(img_path=data_prefix or '')
        super().__init__(data_root=data_root, data_prefix=prefix, pipeline=list(pipeline), **kwargs)

    def set_classes(self, classes: Sequence[str], labels: Sequence[int]) -> None:
        """Sets the class names and checks the labels of all images, with a DataError. ``load_data_list`` calls it."""
        labels = np.asarray(labels) if len(labels) else np.zeros(0, np.int64)
        if labels.ndim != 1 or labels.dtype.kind not in 'iu':
            raise DataError(f'{self.name}: labels must be one integer per image, got {labels.shape} {labels.dtype}')
        wrong = labels[(labels < 0) | (labels >= len(classes))]
        if len(wrong):
            raise DataError(f'{self.name}: label {wrong[0]} is out of range, there are {len(classes)} classes')
        self._metainfo['classes'] = tuple(classes)
        counts = np.bincount(labels.astype(np.int64), minlength=len(classes))
        if not counts.all() and not self.allow_empty_classes:
            empty = [str(name) for name, count in zip(classes, counts) if not count]
            listed = f'{", ".join(empty[:5])}{", ..." * (len(empty) > 5)}'
            raise DataError(
                f'{self.name}: no images in {len(empty)} of {len(counts)} classes: {listed}; add images or remove the class'
            )

    @property
    def name(self) -> str:
        """Type and folder, for messages."""
        return f'{type(self).__name__} in {self.data_root!r}' if self.data_root else type(self).__name__

    def prepare_data(self, idx: int):
        """Returns the transformed sample, or None if its file cannot be read; MMEngine then draws another one."""
        try:
            sample = super().prepare_data(idx)
        except UnreadableImageError as error:
            self.report_unreadable(error)
            return None
        self.unreadable_in_a_row = 0
        return sample

    def report_unreadable(self, error: UnreadableImageError) -> None:
        """Names an image that cannot be read in a warning. Raises a DataError if there are too many of them."""
        if error.path not in self.unreadable:
            self.unreadable.add(error.path)
            warnings.warn(f'unreadable image skipped: {error.path} ({error.reason})', stacklevel=2)
        self.unreadable_in_a_row += 1
        share = 0 if self.test_mode else self.max_unreadable_share
        # So many in a row are no coincidence: the folder is wrong or gone.
        if self.unreadable_in_a_row >= 20 or len(self.unreadable) > share * len(self):
            raise DataError(
                f'{self.name}: {len(self.unreadable)} of {len(self)} images cannot be read, {self.unreadable_in_a_row} in a '
                f'row (max_unreadable_share={share}); the last one: {error.path} ({error.reason})'
            )


@DATASETS.register_module()
class ImageFolder(ClassImageDataset):
    """A folder of class folders: ``data_root/data_prefix/<class>/**/<image>``, classes in alphabetical order.

    Args:
        data_root: Folder of the data set.
        data_prefix: Folder of the class folders below it.
        ann_file: Optional list of the images below ``data_root``, with lines ``<class>/<image> <label>``. By default, the
            folders are searched.
        **kwargs: See :class:`ClassImageDataset`.
    """

    is_list_optional = False

    def load_data_list(self) -> list[dict]:
        """Returns an entry for every image: ``img_path`` and ``gt_label``."""
        root = Path(self.data_prefix.get('img_path') or self.data_root)
        if not root.is_dir():
            raise DataError(f'{type(self).__name__}: no folder {root} with one folder of images per class; set data_root')
        has_list = bool(self.ann_file) and Path(self.ann_file).is_file()
        if self.ann_file and not has_list and not self.is_list_optional:
            raise DataError(f"{self.name}: no file {self.ann_file}; without a list of images set ann_file=''")
        if has_list:
            classes, images = self._read_list()
            entries = [dict(img_path=str(root / path), gt_label=label) for path, label in images]
        else:
            found = find_classes(root)
            classes = list(found)
            entries = [dict(img_path=str(path), gt_label=label) for label, name in enumerate(found) for path in found[name]]
        if not entries:
            raise DataError(f'{self.name}: no images ({", ".join(IMAGE_SUFFIXES)}) in the class folders of {root}')
        self.set_classes(classes, [entry['gt_label'] for entry in entries])
        return entries

    def _read_list(self) -> tuple[list[str], list[tuple[str, int]]]:
        """Reads ``ann_file``: names of the classes, path and label of each image. A class is named after its first image."""
        try:
            lines = Path(self.ann_file).read_text(encoding='utf-8').splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f'{self.ann_file}: cannot be read as a list of images ({error})') from error
        images: list[tuple[str, int]] = []
        names: dict[int, str] = {}
        known: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            path, _, text = line.strip().rpartition(' ')
            if not text:
                continue
            if not Path(path).parts or not re.fullmatch('[0-9]{1,9}', text):
                raise DataError(f'{self.ann_file}, line {number}: expected "<class>/<image> <label>", got {line!r:.200}')
            label = int(text)
            if known.setdefault(path, label) != label:
                raise DataError(f'{self.ann_file}, line {number}: {path} has the label {known[path]} in a line before')
            images.append((path, label))
            names.setdefault(label, Path(path).parts[0])
        if names and max(names) >= len(images):
            raise DataError(f'{self.ann_file}: label {max(names)}, but only {len(images)} images; labels count from 0')
        return [names.get(label, f'class {label}') for label in range(max(names, default=-1) + 1)], images


@DATASETS.register_module()
class ImageNet(ImageFolder):
    """ImageNet (ILSVRC 2012): ``data_root/train/<wnid>/*.JPEG`` and, optionally, ``data_root/meta/train.txt``.

    Without the list, the classes are the folders in alphabetical order, which is the same order. For the arguments see
    :class:`ImageFolder`.
    """

    is_list_optional = True

    def __init__(
        self, data_root: str = 'data/imagenet', ann_file: str = 'meta/train.txt', data_prefix: str | dict = 'train', **kwargs
    ):
        super().__init__(data_root=data_root, ann_file=ann_file, data_prefix=data_prefix, **kwargs)
