"""Inception score (Salimans et al. 2016)."""

from dataclasses import replace

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.extractors import RESIZE_METHODS, StyleGANInception
from mmsagan.evaluation.metrics.base import FeatureMetric, as_float64
from mmsagan.registry import METRICS


def inception_score(probs, splits: int = 10) -> tuple[float, float]:
    """Inception score: exp of the mean KL(p(y|x) || p(y)), in each of several splits, consecutive and of nearly equal size.

    Takes class probabilities p(y|x) (N, K), array or tensor, of row sums 1. Returns mean and biased standard deviation.

    Example:
        >>> round(inception_score(torch.eye(10), splits=1)[0], 6)
        10.0
    """
    probs = as_float64(probs)
    if probs.ndim != 2 or not torch.allclose(probs.sum(1), probs.new_ones(()), atol=1e-3) or (probs < 0).any():
        raise DataError(f'expected class probabilities (N, K) whose rows sum to 1, got values of shape {tuple(probs.shape)}')
    sums = SplitSums(len(probs), probs.shape[1], splits, probs.device)
    sums.update(probs, torch.arange(len(probs)))
    return float(sums.scores.mean()), float(sums.scores.std(correction=0))


class SplitSums:
    """Accumulates the sums of class probabilities (N, K) from which the Inception score of each split follows, in float64.

    Sample ``i`` of ``num_samples`` N is in split ``s`` if ``s N // splits <= i < (s + 1) N // splits``: each sample is in one.
    """

    def __init__(self, num_samples: int, num_classes: int, splits: int, device: torch.device | str = 'cpu'):
        if not 1 <= splits <= num_samples:
            raise ConfigError(f'Inception score: splits={splits} of {num_samples} samples; there must be 1 to {num_samples}')
        self.bounds = torch.tensor([s * num_samples // splits for s in range(1, splits + 1)], device=device)
        # of each class's probability, and in the last columns of p log p, and of the samples: unreadable ones are left out
        self.sums = torch.zeros(splits, num_classes + 2, dtype=torch.float64, device=device)

    def update(self, values: Tensor, index: Tensor, label: Tensor | None = None) -> None:
        """Adds the probabilities (N, K) of the samples with these numbers (N,)."""
        probs = values.to(self.sums.device).double()
        split = torch.searchsorted(self.bounds, index.to(self.bounds), right=True)
        entropies = torch.xlogy(probs, probs).sum(1, keepdim=True)
        self.sums.index_add_(0, split, torch.cat([probs, entropies, torch.ones_like(entropies)], 1))

    def finish(self) -> None:
        all_reduce(self.sums)

    @property
    def scores(self) -> Tensor:
        """Inception score of each split that has samples."""
        sums = self.sums[self.sums[:, -1] > 0]
        marginal, negentropy = sums[:, :-2] / sums[:, -1:], sums[:, -2:-1] / sums[:, -1:]
        divergence = negentropy - torch.xlogy(marginal, marginal).sum(1, keepdim=True)
        return divergence.squeeze(1).exp()


@METRICS.register_module()
class InceptionScore(FeatureMetric):
    """Inception score of the samples: ``is`` and its standard deviation over the splits, ``is_std``; higher is better.

    With ``resize``, which defaults to what is done for the extractor's published scores (True for StyleGAN's), Pillow resizes
    images to 299 pixels, by ``resize_method``: 'bicubic', 'bilinear', 'nearest', 'lanczos' or 'box'.
    """

    short_name = 'IS'
    output = 'probabilities'
    results = ('is', 'is_std')
    best = {'is': 'greater'}
    needs_real = False

    def __init__(
        self,
        fake_nums: int = 50000,
        splits: int = 10,
        resize: bool | None = None,
        resize_method: str = 'bicubic',
        use_pillow_resize: bool = True,
        **kwargs,
    ):
        super().__init__(fake_nums, **kwargs)
        if resize_method not in RESIZE_METHODS or not use_pillow_resize:
            known = ', '.join(RESIZE_METHODS)
            raise ConfigError(f'{self.prefix}: resize_method must be one of {known}, by Pillow; got {resize_method!r}')
        if resize or (resize is None and issubclass(self.source.kind, StyleGANInception)):
            self.source = replace(self.source, resize=resize_method)
        self.splits = splits
        self.accumulator_key = (SplitSums, splits)

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False) -> SplitSums:
        return SplitSums(num_samples, width, self.splits, device)

    def compute(self, fake: SplitSums) -> dict[str, float]:
        return {'is': float(fake.scores.mean()), 'is_std': float(fake.scores.std(correction=0))}
