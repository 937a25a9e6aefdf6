"""Kernel Inception distance (Binkowski et al. 2018)."""

import torch
from numpy.random import RandomState

from mmsagan.errors import ConfigError
from mmsagan.evaluation.metrics.base import FeatureMetric, as_features
from mmsagan.evaluation.moments import FeatureBank
from mmsagan.registry import METRICS


def kernel_distance(
    real_features, fake_features, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x·y / D + 1)³, unbiased, over random subsets.

    A subset is at most as large as its set. If both subsets are whole sets, a single one is used, and the result is exact.

    Args:
        real_features: (N, D), array or tensor.
        fake_features: (M, D).
        num_subsets: Number of subsets, each drawn without replacement.
        subset_size: Number of samples per subset.
        seed: Seed of the choice.

    Returns:
        Mean and standard deviation over the subsets.
    """
    sets = as_features(real_features, fake_features)
    smallest = min(subset_size, *map(len, sets))
    if smallest < 2 or num_subsets < 1:
        raise ConfigError(f'kernel distance: needs at least 2 samples a subset and 1 subset, got {smallest} and {num_subsets}')
    if subset_size >= max(map(len, sets)):
        num_subsets = 1
    random = RandomState(seed)
    distances = torch.empty(num_subsets, dtype=torch.float64)
    for number in range(num_subsets):
        x, y = (
            features[torch.from_numpy(random.choice(len(features), min(subset_size, len(features)), replace=False))]
            for features in sets
        )
        xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = [(kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1)) for kernel in (xx, yy)]
        distances[number] = within[0] + within[1] - 2 * xy.mean()
    return float(distances.mean()), float(distances.std(correction=0))


@METRICS.register_module()
class KernelInceptionDistance(FeatureMetric):
    """KID of the samples to the real images: ``kid`` and its standard deviation over subsets, ``kid_std``; lower is better.

    Keeps all features: 8 KiB per sample and real image with Inception.

    Args:
        fake_nums: Number of samples.
        num_subsets: Number of subsets.
        subset_size: Number of samples per subset.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.
    """

    short_name = 'KID'
    results = ('kid', 'kid_std')
    min_real = 2  # for the unbiased estimate

    def __init__(self, fake_nums: int = 50000, num_subsets: int = 100, subset_size: int = 1000, **kwargs):
        super().__init__(fake_nums, **kwargs)
        if subset_size < 2 or num_subsets < 1 or fake_nums < 2:
            raise ConfigError(f'{self.prefix}: fake_nums and subset_size must be at least 2, num_subsets at least 1')
        self.num_subsets = num_subsets
        self.subset_size = subset_size

    def compute(self, fake: FeatureBank) -> dict[str, float]:
        real, generated = (bank.features.to(bank.device) for bank in (self.real, fake))
        return dict(zip(self.results, kernel_distance(real, generated, self.num_subsets, self.subset_size)))
