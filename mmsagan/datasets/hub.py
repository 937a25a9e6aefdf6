"""Data sets of the Hugging Face Hub, and Parquet files, by the library ``datasets``."""

import re
from pathlib import Path

import numpy as np
from mmengine.dataset import force_full_init

from mmsagan.datasets.image_folder import ClassImageDataset, read_rgb
from mmsagan.errors import DataError
from mmsagan.registry import DATASETS
from mmsagan.utils import import_optional


@DATASETS.register_module()
class HuggingFaceDataset(ClassImageDataset):
    """Images with labels that the library ``datasets`` loads: from the Hugging Face Hub, from Parquet files or from a folder.

    Classes are named as the data set names them, or by the sorted values of the labels if it does not. An image is decoded when
    it is read, so the pipeline begins after ``LoadImageFromFile``. Cache, tokens and offline mode are those of the library.

    Args:
        path: Repository, such as ``'uoft-cs/cifar10'``; or a Parquet file, or a folder that ``datasets.load_dataset`` takes.
        split: Split, or a part of one, such as ``'train[:10%]'``.
        image, label: Names of the columns.
        subset: Which of several configurations the data set has.
        revision: Branch, tag or commit of the repository.
    """

    def __init__(
        self,
        path: str,
        split: str = 'train',
        image: str = 'image',
        label: str = 'label',
        subset: str | None = None,
        revision: str | None = None,
        **kwargs,
    ):
        self.path, self.split, self.image, self.label = path, split, image, label
        self.options = dict(name=subset, revision=revision)
        super().__init__(**dict(kwargs, serialize_data=False))

    @property
    def name(self) -> str:
        return f'HuggingFaceDataset {self.path!r}, split {self.split!r}'

    def load_data_list(self):
        datasets = import_optional('datasets', 'hub')
        try:
            if Path(self.path).is_file():
                files = {re.split(r'\W', self.split)[0]: self.path}
                table = datasets.load_dataset('parquet', data_files=files, split=self.split)
            else:
                table = datasets.load_dataset(self.path, split=self.split, **self.options)
        except Exception as error:  # it raises errors of many kinds, also of the libraries that it uses
            raise DataError(f'{self.name} cannot be loaded: {" ".join(str(error).split())[:300]}') from error
        missing = {self.image, self.label} - set(table.column_names)
        if missing:
            columns = ', '.join(table.column_names)
            raise DataError(f'{self.name} has no column {sorted(missing)[0]!r}, set image and label; its columns are {columns}')
        kind = table.features[self.label]
        labels = np.asarray(table[self.label][:])
        classes = getattr(kind, 'names', None)
        if classes is None:
            values, labels = np.unique(labels, return_inverse=True)
            classes = [str(value) for value in values]
        self.set_classes(classes, labels)
        self.labels = labels.astype(np.int64)
        try:
            self.table = table.select_columns([self.image]).cast_column(self.image, datasets.Image(decode=False))
        except Exception as error:
            raise DataError(f'{self.name}: the column {self.image!r} has no images: {error}') from error
        return range(len(table))

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        number = self.data_list[idx]
        stored = self.table[int(number)][self.image] or {}
        where = stored.get('path') or f'{self.path}, image {number}'
        image = read_rgb(where, stored.get('bytes'))
        return dict(img=image, gt_label=int(self.labels[number]), sample_idx=idx % len(self))
