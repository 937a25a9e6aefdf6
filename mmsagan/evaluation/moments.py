"""What is kept of features: their mean and covariance, which files hold for real images, or the features themselves.

An accumulator has ``update(values, index, label)``, called with batches of this process's samples in any order: features or
probabilities (N, D), numbers (N,) and classes (N,). ``finish()``, called once, combines the processes.
"""

import functools
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, gather_object
from torch import Tensor

from mmsagan.errors import DataError
from mmsagan.utils.files import check_writable, open_atomically, write_atomically
from mmsagan.utils.pickles import load_array_pickle

# Where pickles find numpy's function that rebuilds an array, and where older versions have it.
_MODULE_NAMES = (b'cnumpy._core.multiarray\n_reconstruct\n', b'cnumpy.core.multiarray\n_reconstruct\n')
# What MMGeneration, MMagic, and pytorch-fid and ADM call the two arrays.
_KEYS = (('mean', 'cov'), ('real_mean', 'real_cov'), ('mu', 'sigma'))
SUFFIXES = ('.pkl', '.npz')


@functools.cache
def float64_device(device: torch.device) -> torch.device:
    """Returns the device, or the CPU if it has no float64, such as Apple's GPUs: where accumulators and metrics compute."""
    try:
        torch.ones(1, dtype=torch.float64, device=device).sum()
    except (TypeError, RuntimeError):
        return torch.device('cpu')
    return device


class Moments:
    """Accumulates the mean and covariance of features of length D in float64; memory does not grow with their number."""

    def __init__(self, num_features: int, device: torch.device | str = 'cpu'):
        self.size = 0
        self.total = torch.zeros(num_features, dtype=torch.float64, device=device)
        self.products = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)

    def update(self, features: Tensor, index: Tensor | None = None, label: Tensor | None = None) -> None:
        """Adds features (N, D); numbers and classes are ignored."""
        features = features.to(self.total.device).double()
        self.size += len(features)
        self.total += features.sum(0)
        self.products.addmm_(features.T, features)

    def finish(self) -> None:
        size = self.total.new_tensor(self.size)
        for sums in (size, self.total, self.products):
            all_reduce(sums)
        self.size = int(size)

    @property
    def mean(self) -> Tensor:
        """Mean (D,)."""
        return self.total / self.size

    @property
    def cov(self) -> Tensor:
        """Unbiased covariance (D, D), as ``numpy.cov`` computes it."""
        return (self.products - torch.outer(self.total, self.mean)) / (self.size - 1)


class FeatureBank:
    """Keeps the features of samples, float32 on the CPU; metrics compare them on ``device``.

    After :meth:`finish`, the main process has the ``features`` (N, D), numbers ``index`` (N,) and classes ``label`` (N,) of
    all processes, sorted by number; without ``gather``, each process has its own. ``keep`` says which numbers are kept.
    """

    def __init__(self, num_features: int, device: torch.device | str = 'cpu', gather: bool = True, keep: Tensor | None = None):
        self.device = device
        self.gather = gather
        self.keep = keep
        # The empty first batch is for a process that gets no other.
        empty = torch.empty(0, dtype=torch.long)
        self._batches: list[Sequence[Tensor]] = [(torch.empty(0, num_features), empty, empty)]

    def update(self, values: Tensor, index: Tensor, label: Tensor) -> None:
        """Adds features (N, D), numbers (N,) and classes (N,)."""
        batch = values.float().cpu(), index.cpu(), label.cpu()
        self._batches.append(batch if self.keep is None else [column[self.keep[batch[1]]] for column in batch])

    def finish(self) -> None:
        """Concatenates the batches of this process, or of all in the main process."""
        columns: list[Tensor] = [torch.cat(column) for column in zip(*self._batches)]
        self._batches = []
        if self.gather:
            gathered = gather_object(columns)
            if gathered is None:  # not the main process
                return
            columns = [torch.cat(column) for column in zip(*gathered)]
            order = columns[1].argsort()
            columns = [column[order] for column in columns]
        self.features, self.index, self.label = columns


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of the features of a set of images, float64; number of images or 0; names, if known."""

    mean: np.ndarray
    cov: np.ndarray
    size: int = 0
    extractor: str = ''
    name: str = ''
    content: Mapping[str, Any] = field(default_factory=dict)  # tells this set from others, see RealImages.fingerprint
    whole: bool = True  # whether these are all images of the data set
    automatic: bool = False  # whether an evaluation has written them, and may replace them

    def difference(self, wanted: Mapping[str, Any]) -> str | None:
        """Says what of ``content`` differs from what is wanted; None if nothing does that both of them state."""
        for key, value in wanted.items():
            if self.content.get(key, value) != value:
                is_hash = key in ('names', 'contents')
                return f'images of other {key}' if is_hash else f'{key}={self.content[key]!r:.300}, not {value!r:.300}'
        return None


def save_statistics(statistics: Statistics, path: str | Path) -> None:
    """Writes a ``.pkl`` file, which MMGeneration and MMagic read, too, or an ``.npz`` file."""
    path = Path(path)
    check_writable(path, SUFFIXES)
    content = dict(vars(statistics), content=json.dumps(statistics.content))
    if path.suffix == '.npz':
        with open_atomically(path) as file:
            np.savez(file, **content)
    else:
        content.update(real_mean=statistics.mean, real_cov=statistics.cov)
        # Protocol 3 writes globals as lines of text. MMGeneration's numpy knows only the older module name.
        write_atomically(path, pickle.dumps(content, protocol=3).replace(*_MODULE_NAMES))


def load_statistics(path: str | Path) -> Statistics:
    """Reads statistics written here, by MMGeneration, MMagic, pytorch-fid or ADM. No code in the file is run.

    A file that is missing or damaged, or contains anything but arrays and plain values, is a DataError.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f'statistics {path} do not exist; mmsagan statistics makes them')
    try:
        content = _read(path)
        pairs = [(content[mean], content[cov]) for mean, cov in _KEYS if mean in content and cov in content]
        if not pairs:
            raise ValueError(f'it has no mean and covariance, by the names of one of {_KEYS}')
        for values in pairs[0]:
            # Lists are refused: a few of them, nested in each other, contain more numbers than there is memory.
            if not isinstance(values, np.ndarray) or values.dtype.kind not in 'iuf':
                raise ValueError('mean or covariance is not an array of real numbers')
        mean, cov = (np.ascontiguousarray(values, np.float64) for values in pairs[0])
        if mean.ndim != 1 or not mean.size or cov.shape != (len(mean), len(mean)):
            raise ValueError(f'a mean of shape {mean.shape} and a covariance of shape {cov.shape} do not match')
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise ValueError('it contains NaN or Inf')
        size, whole = int(content.get('size', 0)), bool(content.get('whole', True))
        # Older versions have written a config.
        described = json.loads(content.get('content') or '{}')
        described = described if isinstance(described, dict) and 'images' in described else {}
        if size < 0 or (cov.diagonal() < 0).any() or not np.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * abs(cov).max()):
            raise ValueError('the covariance is not symmetric, or a variance or the size is negative')
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DataError(f'{path}: cannot be read as statistics: {str(error) or type(error).__name__}') from error
    extractor, name = (content[key] if isinstance(content.get(key), str) else '' for key in ('extractor', 'name'))
    automatic = content.get('automatic') is True
    return Statistics(mean, cov, size, extractor, name or path.stem, described, whole, automatic)


def _read(path: Path) -> dict:
    """Everything in a pickle, the arrays and values of known names in an archive."""
    with path.open('rb') as file:
        is_archive = file.read(2) == b'PK'
    if not is_archive:
        content = load_array_pickle(path.read_bytes())
        return content if isinstance(content, dict) else {}
    names = {*(name for pair in _KEYS for name in pair), *(field.name for field in fields(Statistics))}
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in names.intersection(archive.files)}
    return {key: array if array.ndim else array.item() for key, array in arrays.items()}
