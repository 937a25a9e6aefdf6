"""Inception score (Salimans et al. 2016)."""

import torch

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.accumulators import SplitScores
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.features import as_float64
from mmsagan.evaluation.resizing import Resize
from mmsagan.registry import METRICS


def inception_score(probs, splits: int = 10) -> tuple[float, float]:
    """Inception score: exp of the mean KL(p(y|x) || p(y)), in each of several splits.

    Args:
        probs: Class probabilities p(y|x) (N, K), rows that sum to 1, array or tensor.
        splits: Number of splits, consecutive and as equal as they can be.

    Returns:
        Mean and standard deviation (with N in the denominator) over the splits.

    Raises:
        DataError: These are no probabilities.
        ConfigError: There are more splits than samples.

    Example:
        >>> round(inception_score(torch.eye(10), splits=1)[0], 6)
        10.0
    """
    probs = as_float64(probs)
    if probs.ndim != 2 or not torch.allclose(probs.sum(1), probs.new_ones(()), atol=1e-3) or (probs < 0).any():
        raise DataError(f'expected class probabilities (N, K) whose rows sum to 1, got values of shape {tuple(probs.shape)}')
    scores = SplitScores(len(probs), probs.shape[1], splits, probs.device)
    scores.update(probs, torch.arange(len(probs)))
    return _mean_and_std(scores)


def _mean_and_std(scores: SplitScores) -> tuple[float, float]:
    return float(scores.scores.mean()), float(scores.scores.std(correction=0))


@METRICS.register_module()
class InceptionScore(FeatureMetric[SplitScores]):
    """Inception score of the samples: ``is`` and ``is_std`` over the splits; higher is better.

    Args:
        fake_nums: Number of samples.
        splits: Number of splits.
        resize: Whether the images are resized for the extractor, or fed as they are; None: as in the extractor's published
            scores, which means resized for StyleGAN's.
        resize_method: 'bicubic', 'bilinear' or 'nearest'.
        use_pillow_resize: Whether Pillow resizes, as in the published scores, or PyTorch.
        resize_size: What to, in pixels.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.
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
        resize_size: int = 299,
        **kwargs,
    ):
        super().__init__(fake_nums, **kwargs)
        how = Resize(resize_size, resize_method, 'pillow' if use_pillow_resize else 'torch')
        if resize or (resize is None and self.source.resized_for_score):
            self.source = self.source.resized(how)
        if not isinstance(splits, int) or not 1 <= splits <= self.fake_nums:
            raise ConfigError(f'{self.prefix}: splits={splits} must lie between 1 and fake_nums={fake_nums}')
        self.splits = splits
        self.accumulator_key = (SplitScores, splits)

    def new_accumulator(self, num_samples: int, width: int, device: torch.device) -> SplitScores:
        return SplitScores(num_samples, width, self.splits, device)

    def compute(self, fake: SplitScores) -> dict[str, float]:
        mean, std = _mean_and_std(fake)
        return {'is': mean, 'is_std': std}
