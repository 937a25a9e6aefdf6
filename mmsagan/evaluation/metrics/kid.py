"""Kernel Inception distance (Binkowski et al. 2018)."""

from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.evaluation.images import RealImages, deterministic_float32
from mmsagan.evaluation.metrics.base import FeatureMetric, as_features
from mmsagan.evaluation.moments import FeatureBank
from mmsagan.registry import METRICS

_ROWS = 1000  # samples that are compared with others at a time


def kernel_distance(
    real_features, fake_features, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Squared maximum mean discrepancy of features (N, D) and (M, D), arrays or tensors, with the kernel (x·y / D + 1)³.

    Returns the mean and standard deviation of the unbiased estimates of random subsets, which are drawn without replacement and
    are at most as large as their sets. If both are whole sets, a single one is used, and the result is exact. Products have
    the features' precision, float32 or float64; sums are float64.
    """
    sets = as_features(real_features, fake_features)
    rows = [draw_subsets(len(features), num_subsets, subset_size, seed, side == 0) for side, features in enumerate(sets)]
    return _over_subsets(sets, rows, [], sets[0].device)


def draw_subsets(num_samples: int, num_subsets: int, subset_size: int, seed: int, is_real: bool) -> np.ndarray:
    """Numbers of the samples of each subset, (num_subsets, subset_size), or (1, num_samples) if it is the whole set."""
    if min(subset_size, num_samples) < 2 or num_subsets < 1:
        raise ConfigError(f'KID: {num_subsets=} must be at least 1, and {subset_size=} and {num_samples=} at least 2')
    if subset_size >= num_samples:
        return np.arange(num_samples)[None]
    random = RandomState([seed, is_real])  # so that the real images' subsets do not depend on the samples'
    return np.stack([random.choice(num_samples, subset_size, replace=False) for _ in range(num_subsets)])


@deterministic_float32()
def _over_subsets(sets: list[Tensor], subsets: Any, real_terms: list, device: torch.device | str) -> tuple[float, float]:
    """Mean and standard deviation over pairs of subsets; ``real_terms``, those of real images alone, are added if missing."""
    # On CPUs all is numpy's: it halves the work where a matrix is multiplied by itself, and its threads hinder PyTorch's.
    on_cpu = torch.device(device).type == 'cpu'
    sources = [features.numpy(force=True) if on_cpu else features for features in sets]
    distances = []
    for number in range(max(map(len, subsets))):
        x, y = (features[rows[number % len(rows)]] for features, rows in zip(sources, subsets))
        if not on_cpu:
            x, y = x.to(device), y.to(device)
        if number == len(real_terms):
            real_terms.append(_kernel_sum(x, x) / (len(x) * (len(x) - 1)))
        fake_term, cross = _kernel_sum(y, y) / (len(y) * (len(y) - 1)), _kernel_sum(x, y) / (len(x) * len(y))
        distances.append(real_terms[number] + fake_term - 2 * cross)
    return float(np.mean(distances)), float(np.std(distances))


def _kernel_sum(x, y) -> float:
    """Sum of the kernels of all pairs, but for those of a sample with itself."""
    total = 0.0
    for first in range(0, len(x), _ROWS):
        kernel = x[first : first + _ROWS] @ y.T
        kernel /= x.shape[1]
        kernel += 1
        cube = kernel * kernel
        cube *= kernel
        total += float(cube.sum(dtype=float)) - (float(cube[:, first:].diagonal().sum(dtype=float)) if y is x else 0)
    return total


class SubsetBank(FeatureBank):
    """Keeps the features of subsets alone; ``subsets`` are the numbers of their samples."""

    def __init__(self, subsets: np.ndarray, num_samples: int, num_features: int, device: torch.device):
        keep = np.bincount(subsets.flatten(), minlength=num_samples) > 0
        super().__init__(num_features, device, keep=torch.from_numpy(keep))
        self.subsets = subsets

    def rows(self) -> list[np.ndarray]:
        """Rows of ``features`` of each subset; unreadable images have none."""
        places = np.full(self.subsets.max() + 1, -1)
        places[self.index.numpy()] = np.arange(len(self.index))
        return [rows[rows >= 0] for rows in places[self.subsets]]


@METRICS.register_module()
class KernelInceptionDistance(FeatureMetric):
    """KID of the samples to the real images: ``kid`` and its standard deviation over subsets, ``kid_std``; lower is better.

    Keeps the features of all samples and real images that are in one of ``num_subsets`` subsets: 8 KiB each with Inception.
    """

    short_name = 'KID'
    results = ('kid', 'kid_std')
    min_real = 2  # for the unbiased estimate

    def __init__(self, fake_nums: int = 50000, num_subsets: int = 100, subset_size: int = 1000, **kwargs):
        super().__init__(fake_nums, **kwargs)
        if subset_size < 2 or num_subsets < 1 or fake_nums < 2:
            raise ConfigError(f'{self.prefix}: fake_nums and subset_size must be at least 2, num_subsets at least 1')
        self.drawing = (num_subsets, subset_size, 0)
        self.accumulator_key = (SubsetBank, *self.drawing)
        self._real_terms: list[float] = []

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False) -> SubsetBank:
        return SubsetBank(draw_subsets(num_samples, *self.drawing, is_real), num_samples, width, device)

    def take_real(self, accumulator: SubsetBank, images: RealImages) -> None:
        self.real, self._real_terms = accumulator, []

    def compute(self, fake: SubsetBank) -> dict[str, float]:
        sets = as_features(self.real.features, fake.features)
        values = _over_subsets(sets, (self.real.rows(), fake.rows()), self._real_terms, fake.device)
        return dict(zip(self.results, values))
