"""Fréchet Inception distance (Heusel et al. 2017), of all images and within classes."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_dist_info, is_main_process
from mmengine.logging import print_log
from numpy.random import RandomState
from torch import Tensor

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

    Means (D,) and covariances (D, D) are arrays or tensors. With S1 = L L', the eigenvalues of S1 S2 are those of the symmetric
    L' S2 L, so no square root of a matrix is needed. Of a singular covariance, L has as many columns as its rank.

    Example:
        >>> frechet_distance(np.zeros(2), np.eye(2), np.ones(2), 4 * np.eye(2))
        4.0
    """
    mean1, cov1, mean2, cov2 = (as_float64(values).cpu() for values in (mean1, cov1, mean2, cov2))
    if not all(values.isfinite().all() for values in (mean1, cov1, mean2, cov2)):
        raise DataError('a mean or a covariance contains NaN or Inf')
    factor, is_singular = torch.linalg.cholesky_ex(cov1)
    if not is_singular and torch.linalg.cholesky_ex(cov2).info:
        cov1, cov2, is_singular = cov2, cov1, True
    if is_singular:
        values, vectors = torch.linalg.eigh(cov1)
        # Square roots would turn the rounding errors of the other eigenvalues, which are 0, into a sum that is not.
        is_positive = values > values.max() * len(values) * torch.finfo(values.dtype).eps
        factor = vectors[:, is_positive] * values[is_positive].sqrt()
    eigenvalues = torch.linalg.eigvalsh(factor.T @ cov2 @ factor)
    cross = eigenvalues.clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return float(distance.clamp(min=0)) + 0.0  # rounding makes that of equal ones negative, and the sum -0.0 positive


def check_rank(name: str, count: int, width: int) -> None:
    """Warns that a covariance of ``width`` features is singular if there are too few images; fewer than 2 are a ConfigError."""
    if count < 2:
        raise ConfigError(f'{name}={count}, but a covariance needs at least 2')
    if count <= width:
        message = f'{name}={count} makes the covariance of {width} features singular: compare only with scores from as many'
        print_log(message, logger='current', level=logging.WARNING)


@METRICS.register_module()
class FrechetInceptionDistance(FeatureMetric):
    """FID of the samples to the real images: ``fid``, lower is better.

    Real statistics are read from ``inception_pkl`` if that file exists. Otherwise they are extracted from the real images of
    the evaluation's data loader, once, and written to ``inception_pkl`` if it is given. A file that an evaluation has written
    is made anew if it is of other images, features or transforms than the evaluation's; any other file is then an error. It is
    a ``.pkl`` or ``.npz`` file, or a URL.
    """

    short_name = 'FID'
    results = ('fid',)
    best = {'fid': 'less'}
    accumulator_key: tuple = (Moments,)

    def __init__(self, fake_nums: int = 50000, real_nums: int = -1, inception_pkl: str | None = None, **kwargs):
        super().__init__(fake_nums, real_nums=real_nums, **kwargs)
        self.inception_pkl = inception_pkl

    def use_shared_pkl(self, path: str) -> None:
        """Sets ``inception_pkl`` to a file for all metrics if it is of this extractor, else to one with its suffix."""
        self.inception_pkl, file = path, Path(path)
        suffix = self.source.suffix + ('' if self.output == 'features' else f'-{self.output}')
        if path.startswith(URLS) or not suffix:
            return
        is_there = file.expanduser().is_file()
        kind = load_statistics(file.expanduser()).extractor if is_there else None
        if kind != self.source.name or self.output != 'features':
            self.inception_pkl = str(file.with_stem(file.stem + suffix))
            if is_there:
                other = f'{path} is of {kind or "an unknown extractor"}, and {self.inception_pkl} is used instead'
                print_log(f'{self.prefix}: {other}', logger='current')

    def check(self, width: int, inputs: SampleInputs | None, real_images: RealImages | None) -> None:
        check_rank(f'{self.prefix}: fake_nums', self.fake_nums, width)
        # The first process decides whether there are statistics: on another node the file may be missing.
        self.real = from_main_process(lambda: self._load(width, real_images))
        if self.real is None and real_images is not None:
            count = len(real_images) if self.real_nums < 0 else self.real_nums
            check_rank(f'{self.prefix}: the number of real images', count, width)

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
            check_rank(f'{path}: size', found.size, width)
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

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False) -> Moments:
        return Moments(width, device)

    def take_real(self, accumulator: Moments, images: RealImages) -> None:
        mean, cov = accumulator.mean.cpu().numpy(), accumulator.cov.cpu().numpy()
        count = len(images) if self.real_nums < 0 else self.real_nums
        self.real = Statistics(mean, cov, count, self.source.name, images.name, whole=count == len(images))
        if self.inception_pkl is not None and is_main_process():
            statistics = replace(self.real, content=self.fingerprint(images), automatic=True)
            save_statistics(statistics, Path(self.inception_pkl).expanduser())
            print_log(f'{self.prefix}: statistics of the real images written to {self.inception_pkl}', logger='current')

    def compute(self, fake: Any) -> dict[str, float]:
        return dict(fid=frechet_distance(fake.mean, fake.cov, self.real.mean, self.real.cov))


@METRICS.register_module()
class SpatialFID(FrechetInceptionDistance):
    """sFID, as in ADM: of seven channels of a feature map of 17x17, which tell where things are. Source: Nash et al. 2021."""

    short_name = 'sFID'
    output = 'spatial'
    default_style = 'PyTorch'
    default_resize = 'tensorflow'


def frechet_distance_at_infinity(mean, cov, features: Tensor, num_sizes: int = 10) -> float:
    """Fréchet distance of features (N, D) to a normal distribution, extrapolated to infinite N by a line in 1/N.

    The line is fitted to the distances of ``num_sizes`` random choices, from N/10, or from the smaller of 2 D and N/2 if it is
    more, to N. Source: Chong & Forsyth 2020.
    """
    count, width = features.shape
    sizes = np.linspace(max(count // 10, min(2 * width, count // 2)), count, num_sizes).astype(int)
    order, moments, distances = RandomState(0).permutation(count), Moments(width), []
    for first, last in zip([0, *sizes], sizes):
        moments.update(features[order[first:last]])
        distances.append(frechet_distance(mean, cov, moments.mean, moments.cov))
    return float(np.polyfit(1 / sizes, distances, 1)[1])


@METRICS.register_module()
class FIDInfinity(FrechetInceptionDistance):
    """FID of infinitely many samples by :func:`frechet_distance_at_infinity`: ``fid_infinity``. Keeps the samples' features."""

    short_name = 'FIDInfinity'
    results = ('fid_infinity',)
    best = {}
    accumulator_key = (Moments, FeatureBank)

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False):
        return Moments(width, device) if is_real else FeatureBank(width, device)

    def compute(self, fake: Any) -> dict[str, float]:
        return dict(fid_infinity=frechet_distance_at_infinity(self.real.mean, self.real.cov, fake.features))


@METRICS.register_module()
class IntraFID(FeatureMetric):
    """FID within each class: the mean over classes, ``intra_fid``, and ``per_class``, a dict by class name.

    Of classes with fewer images than features, covariances are singular, and values compare only with those from as many
    images. The paper's are from 50 000 samples in all; others take 5 000 a class, or as many as there are real images. Each
    process keeps the features of its images: 8 KiB each with Inception. Source: Miyato & Koyama 2018; the paper, section 5.

    ``fakes_per_class`` replaces ``fake_nums`` of random classes: a number for each, or 'real' for that of its real images.
    """

    short_name = 'IntraFID'
    results = ('intra_fid', 'per_class')
    collective = True
    accumulator_key = (FeatureBank, 'local')
    classes: Sequence[str] = ()

    def __init__(self, fake_nums: int = 50000, fakes_per_class: int | str | None = None, **kwargs):
        super().__init__(fake_nums, **kwargs)
        is_number = isinstance(fakes_per_class, int) and fakes_per_class >= 2
        if not is_number and fakes_per_class not in (None, 'real'):
            raise ConfigError(f"{self.prefix}: fakes_per_class must be at least 2 or 'real', got {fakes_per_class!r}")
        self.fakes_per_class = fakes_per_class

    def check(self, width: int, inputs: SampleInputs | None, real_images: RealImages | None) -> None:
        if inputs is not None and not inputs.num_classes:
            raise ConfigError(f'{self.prefix}: needs a model with classes')
        if real_images is not None:
            self.classes = getattr(real_images.dataset, 'metainfo', {}).get('classes') or ()
            if not self.classes or (inputs is not None and len(self.classes) != inputs.num_classes):
                count = f'the model has {inputs.num_classes} classes, ' if inputs else ''
                raise DataError(f'{self.prefix}: {count}{real_images.name} has {len(self.classes)}')
        if inputs is None or self.fakes_per_class == 'real':
            return
        if isinstance(self.fakes_per_class, int):
            counts = self.class_counts = torch.full((inputs.num_classes,), self.fakes_per_class)
            self.fake_nums = int(counts.sum())
        else:
            counts = torch.bincount(inputs.labels(0, self.fake_nums), minlength=inputs.num_classes)
        check_rank(f'{self.prefix}: the smallest number of samples of a class', int(counts.min()), width)

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False) -> FeatureBank:
        return FeatureBank(width, gather=False)

    def take_real(self, accumulator: FeatureBank, images: RealImages) -> None:
        counts = self._count(accumulator, f'real images in {images.name}')
        if self.fakes_per_class == 'real':
            self.class_counts, self.fake_nums = counts, int(counts.sum())
        self.real = accumulator

    def _count(self, bank: FeatureBank, kind: str) -> Tensor:
        """Number of images of each class on all processes; fewer than 2 are a DataError."""
        counts = torch.bincount(bank.label, minlength=len(self.classes))
        all_reduce(counts)
        if counts.min() < 2:
            raise DataError(f'{self.prefix}: class {self.classes[int(counts.argmin())]!r} has {int(counts.min())} {kind}')
        return counts

    def compute(self, fake: FeatureBank) -> dict:
        self._count(fake, 'samples')
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
