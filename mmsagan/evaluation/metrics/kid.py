"""Kernel Inception distance (Binkowski et al. 2018)."""

import torch
from numpy.random import RandomState
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.evaluation.accumulators import FeatureBank
from mmsagan.evaluation.images import RealImages
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.features import as_features
from mmsagan.registry import METRICS


def kernel_distance(
    real_features, fake_features, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Squared maximum mean discrepancy under the kernel (x·y / D + 1)³, unbiased, over random subsets.

    Subsets larger than a set are as large as the set; if they are both whole sets, one is enough, and the result is exact.

    Args:
        real_features: (N, D), array or tensor.
        fake_features: (M, D).
        num_subsets: Number of subsets, each drawn without replacement.
        subset_size: Their size.
        seed: Of the choice.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        DataError: The features do not fit together, or hold NaN or Inf.
        ConfigError: Fewer than two samples, which the unbiased estimate needs, or no subsets.
    """
    real, fake = as_features(real_features, fake_features)
    smallest = min(len(real), len(fake), subset_size)
    if smallest < 2 or num_subsets < 1:
        raise ConfigError(f'kernel distance: needs at least 2 samples a subset and 1 subset, got {smallest} and {num_subsets}')
    if subset_size >= max(len(real), len(fake)):
        num_subsets = 1
    random = RandomState(seed)
    distances = torch.stack(
        [_unbiased_distance(_subset(real, subset_size, random), _subset(fake, subset_size, random)) for _ in range(num_subsets)]
    )
    return float(distances.mean()), float(distances.std(correction=0))


def _subset(features: Tensor, size: int, random: RandomState) -> Tensor:
    chosen = random.choice(len(features), min(size, len(features)), replace=False)
    return features[torch.from_numpy(chosen).to(features.device)]


def _unbiased_distance(x: Tensor, y: Tensor) -> Tensor:
    def mean_without_diagonal(kernel: Tensor) -> Tensor:
        return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))

    return mean_without_diagonal(_kernel(x, x)) + mean_without_diagonal(_kernel(y, y)) - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


@METRICS.register_module()
class KernelInceptionDistance(FeatureMetric[FeatureBank]):
    """KID of the samples to the real images: ``kid`` and its standard deviation ``kid_std`` over subsets; lower is better.

    Keeps all features: 8 KiB a sample and a real image with Inception's.

    Args:
        fake_nums: Number of samples.
        num_subsets: Number of subsets.
        subset_size: Their size.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.
    """

    short_name = 'KID'
    results = ('kid', 'kid_std')
    accumulator_key = (FeatureBank,)

    def __init__(self, fake_nums: int = 50000, num_subsets: int = 100, subset_size: int = 1000, **kwargs):
        super().__init__(fake_nums, **kwargs)
        if subset_size < 2 or num_subsets < 1 or fake_nums < 2:
            raise ConfigError(f'{self.prefix}: fake_nums and subset_size must be at least 2, num_subsets at least 1')
        self.num_subsets = num_subsets
        self.subset_size = subset_size

    def check_real(self, count: int, images: RealImages) -> None:
        if count < 2:
            raise ConfigError(f'{self.prefix}: real_nums={count}; the unbiased estimate needs at least 2')

    def new_accumulator(self, num_samples: int, width: int, device: torch.device) -> FeatureBank:
        return FeatureBank(width, device)

    def compute(self, fake: FeatureBank) -> dict[str, float]:
        real, generated = (bank.features.to(bank.device) for bank in (self.collected_real, fake))
        mean, std = kernel_distance(real, generated, self.num_subsets, self.subset_size)
        return dict(kid=mean, kid_std=std)
