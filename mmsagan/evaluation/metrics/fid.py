"""Fréchet Inception distance (Heusel et al. 2017)."""

from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import Tensor

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.images import RealImages
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.features import as_float64
from mmsagan.evaluation.moments import Moments, Statistics, check_statistics_path, load_statistics, save_statistics
from mmsagan.registry import METRICS
from mmsagan.utils.distributed import from_main_process
from mmsagan.utils.download import URLS, cached_file


def frechet_distance(mean1, cov1, mean2, cov2) -> float:
    """Squared Fréchet distance of two normal distributions: ``|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^(1/2))``.

    With S1 = L L', the eigenvalues of S1 S2 are those of the symmetric L' S2 L, so that no square root of a matrix is needed.
    Covariances may be singular.

    Args:
        mean1: Mean of the first distribution (D,), array or tensor.
        cov1: Its covariance (D, D).
        mean2: Mean of the second one.
        cov2: Its covariance.

    Raises:
        DataError: The shapes do not belong together, or a value is NaN or Inf.

    Example:
        >>> frechet_distance(np.zeros(2), np.eye(2), np.ones(2), 4 * np.eye(2))
        4.0
    """
    mean1, cov1, mean2, cov2 = (as_float64(values).cpu() for values in (mean1, cov1, mean2, cov2))
    size = mean1.shape[0] if mean1.ndim == 1 else -1
    if not (mean1.shape == mean2.shape == (size,) and cov1.shape == cov2.shape == (size, size)):
        shapes = ', '.join(str(tuple(values.shape)) for values in (mean1, cov1, mean2, cov2))
        raise DataError(f'means and covariances do not belong together; their shapes are {shapes}')
    if not all(values.isfinite().all() for values in (mean1, cov1, mean2, cov2)):
        raise DataError('a mean or a covariance holds NaN or Inf')
    factor = _factor(cov1)
    eigenvalues = torch.linalg.eigvalsh(factor.T @ cov2 @ factor)
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    return float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross)


def _factor(cov: Tensor) -> Tensor:
    """L with L L' = cov: Cholesky's, or for a singular covariance the one by eigenvectors."""
    factor, failed = torch.linalg.cholesky_ex(cov)
    if not failed:
        return factor
    eigenvalues, vectors = torch.linalg.eigh(cov)
    return vectors * eigenvalues.clamp(min=0).sqrt()


@METRICS.register_module()
class FrechetInceptionDistance(FeatureMetric[Moments]):
    """FID of the samples to the real images: ``fid``, lower is better.

    Real statistics come from ``inception_pkl`` if that file exists. Otherwise they are extracted from the real images of the
    evaluation's data loader, once, and written to ``inception_pkl`` if it is given.

    Args:
        fake_nums: Number of samples; more than there are features.
        real_nums: Number of real images; -1 for all.
        inception_pkl: File of real statistics (``.pkl`` or ``.npz``), or the URL of one.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.

    Raises:
        ConfigError: There are too few samples for a covariance.
        DataError: The statistics cannot be read or are of other features.
    """

    short_name = 'FID'
    results = ('fid',)
    best = {'fid': 'less'}
    accumulator_key = (Moments,)

    def __init__(self, fake_nums: int = 50000, real_nums: int = -1, inception_pkl: str | None = None, **kwargs):
        super().__init__(fake_nums, real_nums=real_nums, **kwargs)
        self.inception_pkl = inception_pkl
        self.statistics: Statistics | None = None

    def take_default_file(self, path: str) -> None:
        """Sets the file of real statistics, if the metric has none of its own; the extractor's suffix joins its name."""
        if self.inception_pkl is None:
            if path.startswith(URLS):
                self.inception_pkl = path
            else:
                self.inception_pkl = str(Path(path).with_stem(Path(path).stem + self.source.suffix))

    def check(self, width: int, class_counts: list[int] | None, real_images: RealImages | None) -> None:
        self._check_enough(self.fake_nums, width, 'fake_nums')
        if self.real_nums >= 0:
            self._check_enough(self.real_nums, width, 'real_nums')
        # The first process decides for all whether there are statistics: on another node the file may be missing.
        self.statistics = from_main_process(lambda: self._load(width, real_images))
        if self.statistics is not None:
            what = f'{self.statistics.size or "unknown"} images of {self.statistics.name}'
            print_log(f'{self.prefix}: real statistics, {what}, from {self.inception_pkl}', logger='current')

    def _load(self, width: int, real_images: RealImages | None) -> Statistics | None:
        path = self._statistics_path()
        if path is None:
            return None
        if not path.is_file():
            check_statistics_path(path)
            return None
        statistics = load_statistics(path)
        statistics.check(width, self.source.name, path)
        if statistics.size:
            self._check_enough(statistics.size, width, f'{path}: size')
        self._check_same_images(statistics, path, real_images)
        return statistics

    def _check_same_images(self, statistics: Statistics, path: Path, real_images: RealImages | None) -> None:
        others = None
        if self.real_nums >= 0 and statistics.size not in (0, self.real_nums):
            others = f'{statistics.size} images, but real_nums={self.real_nums}'
        elif self.real_nums < 0 and not statistics.whole:
            others = f'{statistics.size} random images, but real_nums=-1 means all'
        elif real_images is not None and statistics.content and real_images.content not in ('', statistics.content):
            others = f'another data set, {statistics.content}, and not of {real_images.content}'
        if others is not None:
            raise ConfigError(
                f'{self.prefix}: {path} is of {others}; give another inception_pkl, which is written if it does not exist'
            )

    def _check_enough(self, count: int, width: int, what: str) -> None:
        if count <= width:
            raise ConfigError(
                f'{self.prefix}: {what}={count} is too few for the covariance of {width} features; take at least {width + 1}'
            )

    def _statistics_path(self) -> Path | None:
        if self.inception_pkl is None:
            return None
        if self.inception_pkl.startswith(URLS):
            return cached_file(self.inception_pkl)
        return Path(self.inception_pkl).expanduser()

    @property
    def lacks_real(self) -> bool:
        return self.statistics is None

    def new_accumulator(self, num_samples: int, width: int, device: torch.device) -> Moments:
        self._check_enough(num_samples, width, 'the number of images')
        return Moments(width, device)

    def take_real(self, accumulator: Moments, images: RealImages) -> None:
        whole = accumulator.size == len(images)
        self.statistics = Statistics.of(accumulator, self.source.name, images.name, images.content, whole)
        path = self._statistics_path() if is_main_process() else None
        if path is not None:
            save_statistics(self.statistics, path)
            print_log(f'{self.prefix}: statistics of the real images written to {self.inception_pkl}', logger='current')

    def compute(self, fake: Moments) -> dict[str, float]:
        assert self.statistics is not None, 'read from a file, or taken from the real images'
        distance = frechet_distance(fake.mean, fake.cov, self.statistics.mean, self.statistics.cov)
        return dict(fid=distance)
