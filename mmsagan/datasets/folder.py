"""Images in folders: any folder of class folders, and ImageNet."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from mmsagan.datasets.base import ClassImageDataset
from mmsagan.datasets.decoding import IMAGE_SUFFIXES
from mmsagan.errors import DataError
from mmsagan.registry import DATASETS

MOST_DIGITS = 9  # of a label


@DATASETS.register_module()
class ImageFolder(ClassImageDataset):
    """A folder of class folders: ``data_root/data_prefix/<class>/**/<image>``, classes in alphabetical order.

    Args:
        data_root: Folder of the data set.
        data_prefix: Folder of the class folders below it.
        ann_file: Optional list of the images, lines ``<class>/<image> <label>``, relative to ``data_root``.
            Without one, the folders are read.
        **kwargs: See :class:`~mmsagan.datasets.base.ClassImageDataset`.
    """

    list_is_optional = False

    def load_data_list(self) -> list[dict]:
        """One entry an image: ``img_path`` and ``gt_label``."""
        root = Path(self.data_prefix.get('img_path') or self.data_root)
        if not root.is_dir():
            raise DataError(
                f'{type(self).__name__}: no folder {root}; it should hold one folder of images a class. Set '
                'train_dataloader.dataset.data_root'
            )
        has_list = bool(self.ann_file) and Path(self.ann_file).is_file()
        if self.ann_file and not has_list and not self.list_is_optional:
            raise DataError(f"{self.name}: no file {self.ann_file}; without a list of images set ann_file=''")
        classes, entries = self._read_list(root) if has_list else self._read_folders(root)
        if not entries:
            raise DataError(f'{self.name}: no images ({", ".join(IMAGE_SUFFIXES)}) in the class folders of {root}')
        self.describe(classes, [entry['gt_label'] for entry in entries])
        return entries

    def _read_folders(self, root: Path) -> tuple[list[str], list[dict]]:
        classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith('.'))
        entries = []
        for label, name in enumerate(classes):
            paths = sorted(path for path in (root / name).rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
            entries += [dict(img_path=str(path), gt_label=label) for path in paths]
        return classes, entries

    def _read_list(self, root: Path) -> tuple[list[str], list[dict]]:
        entries, names, lines, repeated = [], {}, {}, []
        for number, path, label in self._listed():
            first, known = lines.setdefault(path, (number, label))
            if label != known:
                raise DataError(f'{self.ann_file}: {path} has the label {known} in line {first} and {label} in line {number}')
            if number != first:
                repeated.append(path)
            entries.append(dict(img_path=str(root / path), gt_label=label))
            names.setdefault(label, Path(path).parts[0])
        if repeated:
            listed = f'{", ".join(repeated[:3])}{", ..." if len(repeated) > 3 else ""}'
            warnings.warn(f'{self.ann_file}: {len(repeated)} lines name an image that is listed before: {listed}', stacklevel=2)
        if names and max(names) >= len(entries):
            raise DataError(f'{self.ann_file}: label {max(names)}, but only {len(entries)} images; labels count from 0')
        classes = [names.get(label, f'class {label}') for label in range(max(names, default=-1) + 1)]
        return classes, entries

    def _listed(self) -> Iterator[tuple[int, str, int]]:
        """The list's images: number of the line, path, label."""
        for number, line in enumerate(self._list_lines(), 1):
            if not line.strip():
                continue
            path, _, label = line.strip().rpartition(' ')
            if not Path(path).parts or not label.isdecimal() or len(label) > MOST_DIGITS:
                raise DataError(f'{self.ann_file}, line {number}: expected "<class>/<image> <label>", found {line!r:.200}')
            yield number, path, int(label)

    def _list_lines(self) -> list[str]:
        try:
            return Path(self.ann_file).read_text(encoding='utf-8').splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f'{self.ann_file}: cannot be read as a list of images ({error})') from error


@DATASETS.register_module()
class ImageNet(ImageFolder):
    """ImageNet (ILSVRC 2012): ``data_root/train/<wnid>/*.JPEG`` and, optionally, ``data_root/meta/train.txt``.

    Without the list, the folders in alphabetical order are the classes, which is the same order.

    Args:
        data_root: Folder of ImageNet.
        ann_file: The list below it.
        data_prefix: Folder of the images below it.
        **kwargs: See :class:`~mmsagan.datasets.base.ClassImageDataset`.
    """

    list_is_optional = True

    def __init__(
        self, data_root: str = 'data/imagenet', ann_file: str = 'meta/train.txt', data_prefix: str | dict = 'train', **kwargs
    ):
        super().__init__(data_root=data_root, ann_file=ann_file, data_prefix=data_prefix, **kwargs)
