"""Class-labelled images: the base class of all data sets, folders of image files, and decoding."""

import io
import os
import re
import struct
import warnings
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from PIL import Image, ImageOps, PngImagePlugin

from mmsagan.datasets.archives import find_archive, open_archive, read_member
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import DATASETS

IMAGE_SUFFIXES = tuple('.jpg .jpeg .jpe .jfif .png .apng .webp .bmp .dib .gif .tif .tiff .ppm .pgm .pbm .pnm'.split())
# Of images that cannot be read here: somebody may expect them to be part of the data set.
OTHER_SUFFIXES = tuple('.heic .heif .avif .jxl .jp2 .j2k .svg .psd .tga .ico .exr .pfm .dng .cr2 .cr3 .nef .arw'.split())
# What operating systems and programs put beside images, in addition to hidden files.
SYSTEM_NAMES = ('__MACOSX', 'Thumbs.db', 'desktop.ini', '@eaDir', '$RECYCLE.BIN', 'System Volume Information', 'lost+found')
SPLITS = ('train', 'training', 'val', 'valid', 'validation', 'dev', 'test', 'testing', 'eval')
# What these files contain. Pillow reads more formats, PostScript among them, which is a programming language.
FORMATS = ('JPEG', 'PNG', 'BMP', 'DIB', 'GIF', 'PPM', 'WEBP', 'TIFF')
# Pillow's default limit (half a gigabyte decoded), which other code may have lifted; from half of it on, Pillow warns.
MAX_PIXELS = 178_956_970
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
# Colour profiles and texts, such as ComfyUI's workflows, may take as much memory as the pixels; they are not used.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 3 * MAX_PIXELS
_warned: list[str] = []  # images whose values use a small part of their range; one warning a process is enough


class UnreadableImageError(Exception):
    """An image file cannot be decoded."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason


@contextmanager
def open_image(path: str | Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Opens an image file of any of :data:`FORMATS`, and reads its header. Of several frames, the first one is used.

    With a ``content``, the path is only a name for messages. Any error, also in the body of the ``with`` statement, is raised
    as an UnreadableImageError. Values whose range is unknown, and more than :data:`MAX_PIXELS` pixels, are errors.
    """
    try:
        content = read_member(str(path)) if content is None else content
        with Image.open(path if content is None else io.BytesIO(content), formats=FORMATS) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS:
                raise ValueError(f'{image.width}x{image.height} pixels, at most {MAX_PIXELS} are decoded')
            # In PNG and PPM files, Pillow's 32-bit integers are 16-bit values.
            if image.mode == 'F' or (image.mode == 'I' and image.format == 'TIFF'):
                kind = 'floating-point numbers' if image.mode == 'F' else '32-bit or signed integers'
                raise ValueError(f'its values are {kind}, whose range is unknown; convert them to 8 or 16 bits')
            yield image
    except MemoryError:
        raise  # not the file's fault
    except Exception as error:  # decoders raise nearly anything
        raise UnreadableImageError(str(path), str(error) or type(error).__name__) from error


def read_rgb(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """Decodes an image file to RGB (H, W, 3) uint8 in its Exif orientation; see :func:`open_image` for arguments and errors."""
    with open_image(path, content) as image:
        pixels, finding = decode(image)
    if finding and not _warned:
        _warned.append(str(path))
        warnings.warn(f'{path}: {finding}; mmsagan check-data lists all such images', stacklevel=2)
    return pixels


def decode(image: Image.Image) -> tuple[np.ndarray, str]:
    """Returns the pixels of an opened image as :func:`read_rgb` does, and what is odd about their values, usually ''.

    Transparency is composed on white, 16-bit grey is scaled to 8 bits.
    """
    image.load()
    with suppress(SyntaxError, struct.error):  # of damaged Exif data
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16') or image.mode == 'I':
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    pixels = np.asarray(image.convert('RGB'))
    causes = '12 bits in a 16-bit file, numbers of classes, or values from 0 to 1'
    is_odd = pixels.max() < 16
    return pixels, f'its values use a small part of their range, up to {pixels.max()} of 255: {causes}?' if is_odd else ''


def find_images(folder: str | Path) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Finds the images below a folder or in an archive, which are recognized by :data:`IMAGE_SUFFIXES`.

    Links are followed, except to folders that are searched anyway or contain this one. Returns the sorted paths of the images;
    the names of the folders directly below; and the files that are left out, by their suffix or another reason.
    """
    root, paths, names, left_out = str(Path(folder)), [], [], defaultdict(list)
    seen = set(map(str, Path(root).resolve().parents))
    archive = find_archive(root)
    for name in open_archive(archive, os.path.getmtime(archive), os.getpid()) if archive else ():
        path, suffix = os.path.join(archive, name), os.path.splitext(name)[1].lower()
        is_hidden = any(part.startswith('.') or part in SYSTEM_NAMES for part in name.split(os.sep))
        if path.startswith(f'{root}{os.sep}') and not is_hidden:
            (paths if suffix in IMAGE_SUFFIXES else left_out[suffix or 'files without a suffix']).append(path)
    queue = deque([] if archive else [root])
    while queue:
        current = queue.pop()
        real = os.path.realpath(current)
        if real in seen:
            left_out['links to folders that are searched anyway'].append(current)
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError:
            left_out['folders that cannot be read'].append(current)
            continue
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith('.') or entry.name in SYSTEM_NAMES:
                continue
            elif entry.is_symlink() and not os.path.exists(entry.path):
                left_out['links to nothing'].append(entry.path)
            elif entry.is_dir():
                # Links come last, so that a folder is found where it is.
                (queue.appendleft if entry.is_symlink() else queue.append)(entry.path)
                if current == root:
                    names.append(entry.name)
            elif not entry.is_file():
                left_out['pipes or devices'].append(entry.path)
            elif suffix in IMAGE_SUFFIXES:
                paths.append(entry.path)
            else:
                left_out[suffix or 'files without a suffix'].append(entry.path)
    return sorted(paths, key=lambda path: path.split(os.sep)), names, left_out


class ClassImageDataset(BaseDataset):
    """Base class of the data sets: MMEngine's, with ``metainfo['classes']`` and a label ``gt_label`` for every image.

    An unreadable image is named in a warning and, in a training, replaced by a random other one; scores leave it out.

    Args:
        data_root, data_prefix: Folder of the data set, and of the images below it.
        max_unreadable_share: Share of images that may be unreadable, in [0, 1]; of a training, per data loader process.
        allow_empty_classes: Whether classes may be without images.
        **kwargs: See ``mmengine.dataset.BaseDataset``.
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
        self.keeps_unreadable = False  #: whether an UnreadableImageError takes the place of its image's sample
        self.left_out: dict[str, list[str]] = {}  #: files that are not part of the data set, by the reason why
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
            raise DataError(f'{self.name}: no images in {len(empty)} of {len(counts)} classes: {listed}; add or remove them')

    @property
    def name(self) -> str:
        """Type and folder, for messages."""
        return f'{type(self).__name__} in {self.data_root!r}' if self.data_root else type(self).__name__

    def set_left_out(self, left_out: dict[str, list[str]]) -> None:
        """Sets what is left out, and logs how much that is. ``load_data_list`` calls it."""
        self.left_out = dict(sorted(left_out.items()))
        if left_out:
            counts = [f'{len(paths)} {reason}' for reason, paths in self.left_out.items()]
            print_log(f'{self.name}: left out: {", ".join(counts[:20])}{", ..." * (len(counts) > 20)}', logger='current')

    def prepare_data(self, idx: int):
        """Returns the transformed sample, or None if its file cannot be read; MMEngine then draws another one."""
        try:
            sample = super().prepare_data(idx)
        except UnreadableImageError as error:
            if self.keeps_unreadable:
                return error
            self.unreadable_in_a_row += 1
            self.report_unreadable(error)
            if self.test_mode:
                raise DataError(f'{error.path} cannot be read ({error.reason})') from error
            return None
        except KeyError as error:
            transforms = ', '.join(type(transform).__name__ for transform in self.pipeline.transforms)
            hint = f'none before it gives {error}; image files need LoadImageFromFile first'
            raise ConfigError(f'{self.name}: a transform in pipeline=[{transforms}]: {hint}') from error
        self.unreadable_in_a_row = 0
        return sample

    def report_unreadable(self, error: UnreadableImageError) -> None:
        """Names an image that cannot be read in a warning. Raises a DataError if there are too many of them."""
        if error.path not in self.unreadable:
            self.unreadable.add(error.path)
            warnings.warn(f'unreadable image skipped: {error.path} ({error.reason})', stacklevel=2)
        # So many in a row are no coincidence: the folder is wrong or gone.
        if self.unreadable_in_a_row >= 20 or len(self.unreadable) > self.max_unreadable_share * len(self):
            counts = f'{len(self.unreadable)} of {len(self)} images cannot be read, {self.unreadable_in_a_row} in a row'
            limit = f'max_unreadable_share={self.max_unreadable_share}'
            raise DataError(f'{self.name}: {counts} ({limit}); the last one: {error.path} ({error.reason})')


@DATASETS.register_module()
class ImageFolder(ClassImageDataset):
    """A folder of class folders: ``data_root/data_prefix/<class>/**/<image>``, classes in alphabetical order.

    ``ann_file`` is a list of the images, with lines ``<class>/<image> <label>``; by default, the folders are searched.
    """

    def load_data_list(self) -> list[dict]:
        root = Path(self.data_prefix.get('img_path') or self.data_root)
        if not root.is_dir():
            raise DataError(f'{type(self).__name__}: no folder {root} with one folder of images per class; set data_root')
        if self.ann_file:
            classes, images = self._read_list()
            entries = [dict(img_path=str(root / path), gt_label=label) for path, label in images]
        else:
            (paths, names, left_out), start = find_images(root), len(os.path.join(root, ''))
            found: dict[str, list[str]] = {name: [] for name in names}
            for path in paths:
                name, _, image = path[start:].partition(os.sep)
                (found[name] if image else left_out['images beside the class folders']).append(path)
            self.set_left_out(left_out)
            splits = [name for name, images in found.items() if images]
            if {name.lower() for name in splits} <= {*SPLITS} and any(path.count(os.sep, start) > 1 for path in paths):
                remedy = f'set data_prefix={splits[0]!r}, or give {os.path.join(root, splits[0])} on the command line'
                raise DataError(f'{root}: the class folders are one level too deep, in {", ".join(splits)}; {remedy}')
            for path in left_out['links to folders that are searched anyway']:
                if os.path.dirname(path) == str(root):
                    raise DataError(f'{path} is a link to a folder that is searched anyway; its images would have two labels')
            classes = list(found)
            entries = [dict(img_path=path, gt_label=label) for label, name in enumerate(found) for path in found[name]]
        if not entries:
            hint = 'images without classes go into one folder in it' if self.left_out else ', '.join(IMAGE_SUFFIXES)
            raise DataError(f'{self.name}: no images in the class folders of {root} ({hint})')
        self.set_classes(classes, [entry['gt_label'] for entry in entries])
        return entries

    def _read_list(self) -> tuple[list[str], list[tuple[str, int]]]:
        """Reads ``ann_file``: names of the classes, path and label of each image. A class is named after its first folder."""
        try:
            lines = Path(self.ann_file).read_text(encoding='utf-8-sig', errors='surrogateescape').splitlines()
        except OSError as error:
            raise DataError(f'{self.ann_file} cannot be read ({error}); without a list of images set ann_file=""') from error
        images: list[tuple[str, int]] = []
        names: dict[int, str] = {}
        known: dict[str, tuple[int, int]] = {}  # label and line of each folder, or image without one
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            path, _, text = line.strip().rpartition(' ')
            folder, *image = Path(path).parts or ('',)
            if not folder or not re.fullmatch('[0-9]{1,6}', text):
                raise DataError(f'{self.ann_file}, line {number}: expected "<class>/<image> <label>", got {line!r:.200}')
            label, name = int(text), os.path.normpath(path)
            images.append((path, label))
            if image and folder not in (os.sep, os.pardir):
                name = folder
                names.setdefault(label, name)
            other, first = known.setdefault(name, (label, number))
            if other != label:
                labels = f'{name} has the label {label} here and {other} in line {first}'
                remedy = 'a folder is one class; if all images are in one, set data_prefix to it and leave it out of the list'
                raise DataError(f'{self.ann_file}, line {number}: {labels}; {remedy}')
        highest = max((label for _, label in images), default=-1)
        return [names.get(label, f'class {label}') for label in range(highest + 1)], images


@DATASETS.register_module()
class ImageNet(ImageFolder):
    """ImageNet (ILSVRC 2012): ``data_root/train/<wnid>/*.JPEG`` and, optionally, ``data_root/meta/train.txt``.

    Without the list, the classes are the folders in alphabetical order, which is the same order.
    """

    def __init__(
        self, data_root: str = 'data/imagenet', ann_file: str = 'meta/train.txt', data_prefix: str | dict = 'train', **kwargs
    ):
        super().__init__(data_root=data_root, ann_file=ann_file, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        if not os.path.isfile(self.ann_file):
            self.ann_file = ''
        return super().load_data_list()
