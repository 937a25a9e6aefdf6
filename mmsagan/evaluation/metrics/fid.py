"""Fréchet Inception distance (Heusel et al. 2017), of all images and within classes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_dist_info, is_main_process
from mmengine.logging import print_log

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.images import RealImages, SampleInputs
from mmsagan.evaluation.metrics.base import FeatureMetric, as_float64
from mmsagan.evaluation.moments import SUFFIXES, FeatureBank, Moments, Statistics, load_statistics, save_statistics
from mmsagan.registry import METRICS
from mmsagan.utils.download import URLS, cached_file
from mmsagan.utils.files import check_writable
from mmsagan.utils.processes import from_main_process
from mmsagan.utils.progress import progress_bar


def frechet_distance(mean1, cov1, mean2, cov2) -> float:
    """Squared Fréchet distance of two normal distributions: ``|m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^(1/2))``.

    With S1 = L L', the eigenvalues of S1 S2 are those of the symmetric L' S2 L, so no square root of a matrix is needed.
    Covariances may be singular.

    Args:
        mean1, cov1: Mean (D,) and covariance (D, D) of the first distribution, arrays or tensors.
        mean2, cov2: Those of the second distribution.

    Example:
        >>> frechet_distance(np.zeros(2), np.eye(2), np.ones(2), 4 * np.eye(2))
        4.0
    """
    mean1, cov1, mean2, cov2 = (as_float64(values).cpu() for values in (mean1, cov1, mean2, cov2))
    if not all(values.isfinite().all() for values in (mean1, cov1, mean2, cov2)):
        raise DataError('a mean or a covariance contains NaN or Inf')
    factor, failed = torch.linalg.cholesky_ex(cov1)
    if failed:  # singular
        values, vectors = torch.linalg.eigh(cov1)
        factor = vectors * values.clamp(min=0).sqrt()
    eigenvalues = torch.linalg.eigvalsh(factor.T @ cov2 @ factor)
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return float(distance.clamp(min=0)) + 0.0  # rounding makes that of equal ones negative, and the sum -0.0 positive


@METRICS.register_module()
class FrechetInceptionDistance(FeatureMetric):
    """FID of the samples to the real images: ``fid``, lower is better.

    Real statistics are read from ``inception_pkl`` if that file exists. Otherwise they are extracted from the real images of
    the evaluation's data loader, once, and written to ``inception_pkl`` if it is given. A file that an evaluation has written
    is made anew if it is of other images, features or transforms than the evaluation's; any other file is then an error.

    Args:
        fake_nums: Number of samples; more than there are features.
        real_nums: Number of real images; -1 for all.
        inception_pkl: Path of a file of real statistics (``.pkl`` or ``.npz``), or a URL.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.
    """

    short_name = 'FID'
    results = ('fid',)
    best = {'fid': 'less'}
    accumulator_key = (Moments,)

    def __init__(self, fake_nums: int = 50000, real_nums: int = -1, inception_pkl: str | None = None, **kwargs):
        super().__init__(fake_nums, real_nums=real_nums, **kwargs)
        self.inception_pkl = inception_pkl
        self.real: Statistics | None = None

    def use_shared_pkl(self, path: str) -> None:
        """Sets ``inception_pkl`` to a file for all metrics if it is of this extractor, else to one with its suffix."""
        self.inception_pkl, file = path, Path(path)
        if path.startswith(URLS) or not self.source.suffix:
            return
        is_there = file.expanduser().is_file()
        kind = load_statistics(file.expanduser()).extractor if is_there else None
        if kind != self.source.name:
            self.inception_pkl = str(file.with_stem(file.stem + self.source.suffix))
            if is_there:
                other = f'{path} is of {kind or "an unknown extractor"}, and {self.inception_pkl} is used instead'
                print_log(f'{self.prefix}: {other}', logger='current')

    def check(self, width: int, inputs: SampleInputs | None, real_images: RealImages | None) -> None:
        self._check_count(self.fake_nums, width, 'fake_nums')
        # The first process decides whether there are statistics: on another node the file may be missing.
        self.real = from_main_process(lambda: self._load(width, real_images))
        if self.real is None and real_images is not None:
            count = len(real_images) if self.real_nums < 0 else self.real_nums
            self._check_count(count, width, 'the number of real images')

    def _load(self, width: int, real_images: RealImages | None) -> Statistics | None:
        """Reads the statistics if there are any, and checks that they are those that are asked for."""
        if self.inception_pkl is None:
            return None
        is_url = self.inception_pkl.startswith(URLS)
        path = cached_file(self.inception_pkl) if is_url else Path(self.inception_pkl).expanduser()
        if not path.is_file():
            check_writable(path, SUFFIXES)
            return None
        found, wanted = load_statistics(path), self.fingerprint(real_images)
        if not found.automatic:
            wanted.pop('seed', None)  # one random choice is as good as another
        if found.extractor not in ('', self.source.name):
            difference: str | None = f'features of {found.extractor!r}, but {self.prefix} uses {self.source.name!r}'
        elif len(found.mean) != width:
            difference = f'{len(found.mean)} features, but {self.source.name!r} gives {width}'
        elif found.size not in (0, self.real_nums) if self.real_nums >= 0 else not found.whole:
            difference = f'{found.size} images, but real_nums={self.real_nums}'
        else:
            difference = found.difference(wanted)
        is_known = real_images is None or 'images' in wanted
        if difference and found.automatic and real_images is not None and is_known and not is_url:
            check_writable(path, SUFFIXES)
            print_log(f'{self.prefix}: {path} is made anew, because it is of {difference}', logger='current')
            return None
        if difference:
            resize = 'resize the images (--size) or ' if difference.startswith('image_size') else ''
            remedy = f'{resize}use another file (inception_pkl or --real)'
            raise ConfigError(f'{self.prefix}: {path} is of {difference}; {remedy}')
        if found.size:
            self._check_count(found.size, width, f'{path}: size')
        note = '' if found.content and is_known else '; whether they are of the images of the data set cannot be told'
        name = f'{found.size or "unknown"} images of {found.name}'
        print_log(f'{self.prefix}: statistics of {name} read from {self.inception_pkl}{note}', logger='current')
        return found

    def fingerprint(self, images: RealImages | None) -> dict:
        """What is known of the images and features that the statistics have to be of."""
        known = dict(images.fingerprint if images is not None else {}, extractor=self.source.fingerprint)
        if self.image_size:
            known['image_size'] = list(self.image_size)
        if 0 <= self.real_nums != known.get('images', -1) and images is not None:
            known.update(selection='first' if images.seed is None else 'random', seed=images.seed)
        return known

    def _check_count(self, count: int, width: int, name: str) -> None:
        if count <= width:
            raise ConfigError(
                f'{self.prefix}: {name}={count} is too few for the covariance of {width} features; take at least '
                f'{width + 1}, or measure KID, which has no such limit'
            )

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False) -> Moments:
        return Moments(width, device)

    def take_real(self, accumulator: Moments, images: RealImages) -> None:
        mean, cov = accumulator.mean.cpu().numpy(), accumulator.cov.cpu().numpy()
        self._check_count(accumulator.size, len(mean), 'the number of readable images')
        count = len(images) if self.real_nums < 0 else self.real_nums
        self.real = Statistics(mean, cov, count, self.source.name, images.name, whole=count == len(images))
        if self.inception_pkl is not None and is_main_process():
            statistics = replace(self.real, content=self.fingerprint(images), automatic=True)
            save_statistics(statistics, Path(self.inception_pkl).expanduser())
            print_log(f'{self.prefix}: statistics of the real images written to {self.inception_pkl}', logger='current')

    def compute(self, fake: Moments) -> dict[str, float]:
        assert self.real is not None
        self._check_count(fake.size, len(fake.mean), 'the number of readable images')
        return dict(fid=frechet_distance(fake.mean, fake.cov, self.real.mean, self.real.cov))


@METRICS.register_module()
class IntraFID(FeatureMetric):
    """FID within each class: the mean over classes, ``intra_fid``, and ``per_class``, a dict by class name.

    Each class needs more samples than there are features. Real classes may have fewer images (ImageNet's have at most 1 300),
    as in the paper: their covariances are then singular, and values compare only with those from as many images. Each process
    keeps the features of its images: 8 KiB per image with Inception. Source: Miyato & Koyama 2018; section 5 of the paper.

    Args:
        fake_nums: Number of samples of all classes together.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.
    """

    short_name = 'IntraFID'
    results = ('intra_fid', 'per_class')
    collective = True
    accumulator_key = (FeatureBank, 'local')
    classes: Sequence[str] = ()

    def check(self, width: int, inputs: SampleInputs | None, real_images: RealImages | None) -> None:
        if inputs is None or not inputs.num_classes:
            raise ConfigError(f'{self.prefix}: needs a model with classes')
        smallest, label = torch.bincount(inputs.labels(0, self.fake_nums), minlength=inputs.num_classes).min(0)
        if smallest <= width:
            text = f'of fake_nums={self.fake_nums} samples, class {label} gets {smallest}, too few for the covariance'
            raise ConfigError(f'{self.prefix}: {text} of {width} features')
        if real_images is not None:
            self.classes, count = getattr(real_images.dataset, 'metainfo', {}).get('classes') or (), inputs.num_classes
            if len(self.classes) != count:
                raise DataError(f'{self.prefix}: the model has {count} classes, {real_images.name} has {len(self.classes)}')

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False) -> FeatureBank:
        return FeatureBank(width, gather=False)

    def take_real(self, accumulator: FeatureBank, images: RealImages) -> None:
        counts = torch.bincount(accumulator.label, minlength=len(self.classes))
        all_reduce(counts)
        if counts.min() < 2:
            name = self.classes[int(counts.argmin())]
            raise DataError(f'{self.prefix}: class {name!r} has {int(counts.min())} real images in {images.name}')
        self.real = accumulator

    def compute(self, fake: FeatureBank) -> dict:
        rank, world_size = get_dist_info()
        distances = torch.zeros(len(self.classes), dtype=torch.float64)
        with progress_bar(self.prefix, len(distances)) as advance:
            for first in range(0, len(distances), world_size):
                # Together the processes sum up one class for each of them; then each computes the distance of its class.
                labels = range(first, min(first + world_size, len(distances)))
                for label in labels:
                    sides = [Moments(bank.features.shape[1]) for bank in (fake, self.real)]
                    for moments, bank in zip(sides, (fake, self.real)):
                        moments.update(bank.features[bank.label == label])
                        moments.finish()
                    if label == first + rank:
                        ours, theirs = sides
                if rank < len(labels):
                    distances[first + rank] = frechet_distance(ours.mean, ours.cov, theirs.mean, theirs.cov)
                advance(len(labels))
        all_reduce(distances)
        per_class = dict(zip(map(str, self.classes), distances.tolist()))
        return dict(intra_fid=float(distances.mean()), per_class=per_class)
