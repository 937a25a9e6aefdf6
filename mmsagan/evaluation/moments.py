"""Mean and covariance of features: streamed, merged over processes, kept in files."""

import io
import pickle
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmsagan.errors import DataError
from mmsagan.utils.files import check_writable, write_atomically
from mmsagan.utils.pickles import load_array_pickle

# numpy's own name for the function that rebuilds an array, and the one that older versions know, too.
_MODULE_NAMES = (b'cnumpy._core.multiarray\n_reconstruct\n', b'cnumpy.core.multiarray\n_reconstruct\n')
# How other projects call the two arrays: MMGeneration; MMagic; pytorch-fid and ADM.
_KEYS = (('mean', 'cov'), ('real_mean', 'real_cov'), ('mu', 'sigma'))
_MAX_BYTES = 1 << 31  # the covariance of 16 000 features; Inception has 2 048


class Moments:
    """Sums of features and of their products in float64; memory does not grow with the number of samples.

    Args:
        num_features: Length D of a feature vector.
        device: Where the sums are.

    Example:
        >>> moments = Moments(2)
        >>> moments.update(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
        >>> moments.mean.tolist(), moments.cov.tolist()
        ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])
    """

    def __init__(self, num_features: int, device: torch.device | str = 'cpu'):
        self.size = 0
        self.total = torch.zeros(num_features, dtype=torch.float64, device=device)
        self.products = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)

    def update(self, features: Tensor, index: Tensor | None = None, label: Tensor | None = None) -> None:
        """Adds samples (N, D); which ones they are does not matter."""
        features = features.to(self.total)
        self.size += len(features)
        self.total += features.sum(0)
        self.products.addmm_(features.T, features)

    def finish(self) -> None:
        """Adds what the other processes have seen, by one all-reduce."""
        sums = torch.cat([self.total.new_tensor([self.size]), self.total, self.products.flatten()])
        all_reduce(sums)
        self.size = int(sums[0])
        self.total = sums[1 : 1 + len(self.total)].clone()
        self.products = sums[1 + len(self.total) :].view_as(self.products).clone()

    @property
    def mean(self) -> Tensor:
        """Mean (D,)."""
        return self.total / self.size

    @property
    def cov(self) -> Tensor:
        """Unbiased covariance (D, D), as ``numpy.cov`` has it."""
        return (self.products - torch.outer(self.total, self.mean)) / (self.size - 1)


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of a set of images, and where they are from.

    Attributes:
        mean: (D,) float64.
        cov: (D, D) float64.
        size: Number of images; 0 where a file does not say it.
        extractor: What made the features; empty where a file does not say it.
        name: Of the set of images.
        content: What distinguishes that set, see :class:`~mmsagan.evaluation.RealImages`; empty where a file does not say it.
        whole: Whether these are all images of the set.
    """

    mean: np.ndarray
    cov: np.ndarray
    size: int = 0
    extractor: str = ''
    name: str = ''
    content: str = ''
    whole: bool = True

    @classmethod
    def of(cls, moments: Moments, extractor: str = '', name: str = '', content: str = '', whole: bool = True) -> 'Statistics':
        """The statistics of accumulated moments."""
        return cls(moments.mean.cpu().numpy(), moments.cov.cpu().numpy(), moments.size, extractor, name, content, whole)

    def check(self, num_features: int, extractor: str, path: str | Path = '') -> None:
        """Raises a DataError if features of another extractor or length made these statistics."""
        origin = path or self.name or 'the statistics'
        if self.extractor and self.extractor != extractor:
            raise DataError(f'{origin}: made with the features of {self.extractor!r}, the metric uses {extractor!r}')
        if len(self.mean) != num_features:
            raise DataError(f'{origin}: statistics of {len(self.mean)} features, but {extractor!r} gives {num_features}')


def save_statistics(statistics: Statistics, path: str | Path) -> None:
    """Writes ``.pkl``, which MMGeneration and MMagic read too, or ``.npz``.

    Args:
        statistics: What to write.
        path: The suffix decides about the format.
    """
    path = Path(path)
    check_statistics_path(path)
    content = dict(vars(statistics))
    if path.suffix == '.npz':
        buffer = io.BytesIO()
        np.savez(buffer, **content)
        write_atomically(path, buffer.getvalue())
    else:
        content.update(real_mean=statistics.mean, real_cov=statistics.cov)
        # Protocol 3 names globals as lines of text. The numpy of MMGeneration's days knows only the older module name.
        data = pickle.dumps(content, protocol=3).replace(*_MODULE_NAMES)
        write_atomically(path, data)


def check_statistics_path(path: Path) -> None:
    """Raises an error if statistics cannot be written there, before the work of making them."""
    if path.suffix not in ('.pkl', '.npz'):
        raise DataError(f'{path}: statistics are written as .pkl or .npz')
    check_writable(path)


def load_statistics(path: str | Path) -> Statistics:
    """Reads statistics of MMGeneration, MMagic, pytorch-fid, ADM, or our own; nothing in the file is executed.

    Args:
        path: A ``.pkl`` or ``.npz`` file.

    Raises:
        DataError: The file is missing, truncated, foreign, or holds anything but arrays and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f'statistics {path} do not exist; mmsagan statistics makes them')
    try:
        content = _read(path)
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DataError(f'{path}: cannot be read as statistics: {str(error) or type(error).__name__}') from error
    if isinstance(content, dict):
        for mean, cov in _KEYS:
            if mean in content and cov in content:
                return _checked(path, content, content[mean], content[cov])
    raise DataError(f'{path}: no statistics, which are a mean and a covariance under the names of one of {_KEYS}')


def _read(path: Path):
    """What the file holds that may be of use: everything in a pickle, the arrays of known names in an archive."""
    with path.open('rb') as file:
        is_archive = file.read(2) == b'PK'
    if is_archive:
        return _load_npz(path)
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f'it has more than {_MAX_BYTES} bytes')
    return load_array_pickle(path.read_bytes())


def _load_npz(path: Path) -> dict:
    names = {*(name for pair in _KEYS for name in pair), *(field.name for field in fields(Statistics))}
    with np.load(path, allow_pickle=False) as archive:
        # Before anything is unpacked: a compressed array of zeros takes a thousandth of its size.
        for member in archive.zip.infolist():
            if member.filename.removesuffix('.npy') in names and member.file_size > _MAX_BYTES:
                raise ValueError(f'{member.filename} in it has more than {_MAX_BYTES} bytes')
        return {key: archive[key] for key in names.intersection(archive.files)}


def _checked(path: Path, content: dict, mean, cov) -> Statistics:
    mean, cov = _numbers(path, mean), _numbers(path, cov)
    if mean.ndim != 1 or not mean.size or cov.shape != (len(mean), len(mean)):
        raise DataError(f'{path}: a mean of shape {mean.shape} and a covariance of shape {cov.shape} do not belong together')
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise DataError(f'{path}: the statistics hold NaN or Inf')
    try:
        size, whole = int(content.get('size', 0)), bool(content.get('whole', True))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f'{path}: the size is no number, or whether it is the whole set is not said by one ({error})'
        ) from error
    if size < 0 or (cov.diagonal() < 0).any() or not np.allclose(cov, cov.T, rtol=1e-4, atol=1e-6 * abs(cov).max()):
        raise DataError(f'{path}: no covariance, which is symmetric and has no negative variances, or a negative size')
    texts = {key: _text(content.get(key)) for key in ('extractor', 'content')}
    return Statistics(mean, cov, size, name=_text(content.get('name')) or path.stem, whole=whole, **texts)


def _numbers(path: Path, values) -> np.ndarray:
    """An array in float64. Lists are not taken: nested in each other, a few of them hold more numbers than there is memory."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in 'iuf':
        what = 'complex' if isinstance(values, np.ndarray) and values.dtype.kind == 'c' else 'no array of numbers'
        raise DataError(f'{path}: mean or covariance is {what}')
    return np.ascontiguousarray(values, np.float64)


def _text(value) -> str:
    """A text, which archives have as an array; empty for anything else."""
    is_text = isinstance(value, str) or (isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == 'U')
    return str(value) if is_text else ''
