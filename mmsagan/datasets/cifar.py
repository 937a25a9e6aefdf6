"""CIFAR-10 from its official Python archive."""

import hashlib
import pickle
from pathlib import Path

import numpy as np

from mmsagan.datasets.archives import open_archive
from mmsagan.datasets.mnist import ArrayDataset
from mmsagan.errors import DataError
from mmsagan.registry import DATASETS
from mmsagan.utils.pickles import load_array_pickle

CHECKSUM_FILE = 'md5sums.txt'


@DATASETS.register_module()
class CIFAR10(ArrayDataset):
    """CIFAR-10 (Krizhevsky 2009): 50 000 training and 10 000 test images, 32x32.

    Put ``cifar-10-python.tar.gz``, or the folder ``cifar-10-batches-py/`` that it unpacks to, into the data folder. MD5 sums
    are compared with the official ones, or with those in a file ``md5sums.txt``, which your own data in this format need.
    For the arguments see :class:`~mmsagan.datasets.mnist.ArrayDataset`; with ``test_mode``, the test images are loaded.
    """

    classes = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
    archive = 'cifar-10-python.tar.gz'
    folder = 'cifar-10-batches-py'
    official_md5 = {
        'data_batch_1': 'c99cafc152244af753f735de768cd75f',
        'data_batch_2': 'd4bba439e000b95fd0a9bffe97cbabec',
        'data_batch_3': '54ebc095f3ab1f0389bbae665268c751',
        'data_batch_4': '634d18415352ddfa80567beed471001a',
        'data_batch_5': '482c414d41f54cd18b22e5b47cb7c3cb',
        'test_batch': '40351d587109b95175f43aff81a1287e',
    }

    def __init__(self, data_root: str = 'data', data_prefix: str | dict = 'cifar10', **kwargs):
        super().__init__(data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_arrays(self):
        names = ['test_batch'] if self.test_mode else [f'data_batch_{i}' for i in range(1, 6)]
        wanted = {f'{self.folder}/{name}': name for name in [*names, CHECKSUM_FILE]}
        root = Path(self.data_prefix.get('img_path') or self.data_root)
        archive = root / self.archive
        if all((root / self.folder / name).is_file() for name in names):
            files = {name: (root / part).read_bytes() for part, name in wanted.items() if (root / part).is_file()}
        elif not archive.is_file():
            source = 'https://www.cs.toronto.edu/~kriz/cifar.html'
            raise DataError(f'CIFAR-10 not found: put {self.archive} ({source}), or {self.folder}/ in it, into {root}')
        else:
            members = open_archive.__wrapped__(str(archive), 0, 0)  # not cached
            files = {name: members[part]() for part, name in wanted.items() if part in members}
        sums = self.official_md5
        if CHECKSUM_FILE in files:
            lines = [line.split() for line in files[CHECKSUM_FILE].decode(errors='replace').splitlines() if line.strip()]
            sums = {line[-1].lstrip('*'): line[0] for line in lines}
        images, labels = [], []
        for name in names:
            if name not in files or name not in sums:
                raise DataError(f'{self.name}: {name} or its MD5 sum in {CHECKSUM_FILE} is missing')
            if hashlib.md5(files[name]).hexdigest() != sums[name]:
                remedy = f'fetch it again, or put its MD5 sum into {CHECKSUM_FILE}'
                raise DataError(f'{self.name}: {name} is damaged or not official; {remedy}')
            try:
                batch = load_array_pickle(files[name])
                images.append(batch['data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
                labels += list(batch['labels'])
            except (pickle.UnpicklingError, KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(f'{self.name}: {name} is no batch of CIFAR-10: {error}') from error
        return np.concatenate(images), labels, self.classes
