"""Improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

import torch
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.evaluation.metrics.base import FeatureMetric, as_features
from mmsagan.evaluation.moments import FeatureBank
from mmsagan.registry import METRICS

_ROWS = 1024  # samples whose distances are computed at a time


def precision_recall(real_features, fake_features, k: int = 3) -> dict[str, float]:
    """Precision, recall, density and coverage.

    Each sample is the centre of a ball that reaches to its ``k``-th nearest neighbour in its own set.

    Args:
        real_features: (N, D), array or tensor.
        fake_features: (M, D).
        k: Which neighbour.

    Returns:
        ``precision``: share of fakes in a real ball. ``recall``: share of real images in a fake ball. ``density``: mean number
        of real balls that contain a fake, divided by k. ``coverage``: share of real balls that contain a fake.
    """
    real, fake = as_features(real_features, fake_features)
    if not 1 <= k < min(len(real), len(fake)):
        raise ConfigError(f'precision and recall: k={k} must be at least 1 and below the {min(len(real), len(fake))} samples')
    # Computed distances of equal points are not quite 0; nor are radii if many points are equal.
    tolerance = 1e-7 * max(real.norm(dim=1).max(), fake.norm(dim=1).max())
    in_real, covered = _memberships(fake, real, k, tolerance)
    in_fake, _ = _memberships(real, fake, k, tolerance)
    return dict(
        precision=float((in_real > 0).double().mean()),
        recall=float((in_fake > 0).double().mean()),
        density=float(in_real.double().mean() / k),
        coverage=float(covered.double().mean()),
    )


def _memberships(points: Tensor, centres: Tensor, k: int, tolerance: Tensor) -> tuple[Tensor, Tensor]:
    """Number of balls that contain each point (N,), and which balls contain a point (M,)."""
    # k + 1, since the nearest is the centre itself
    radii = [torch.cdist(rows, centres).kthvalue(k + 1, dim=1).values for rows in centres.split(_ROWS)]
    radius = torch.cat(radii) + tolerance
    counts, occupied = [], torch.zeros(len(centres), dtype=torch.bool, device=centres.device)
    for rows in points.split(_ROWS):
        inside = torch.cdist(rows, centres) <= radius
        counts.append(inside.sum(1))
        occupied |= inside.any(0)
    return torch.cat(counts), occupied


@METRICS.register_module()
class PrecisionRecall(FeatureMetric):
    """Improved precision and recall, density and coverage of the samples; 1 is best, and density may exceed it.

    Keeps all features: 8 KiB per sample and real image with Inception.

    Args:
        fake_nums: Number of samples.
        real_nums: Number of real images, drawn at random; -1 for all. The paper takes as many as samples.
        k: Which neighbour a ball reaches to.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.
    """

    short_name = 'PR'
    results = ('precision', 'recall', 'density', 'coverage')

    def __init__(self, fake_nums: int = 50000, real_nums: int = 50000, k: int = 3, **kwargs):
        super().__init__(fake_nums, real_nums=real_nums, **kwargs)
        if not 1 <= k < fake_nums:
            raise ConfigError(f'{self.prefix}: k={k} must be at least 1 and below fake_nums={fake_nums}')
        self.k = k
        self.min_real = k + 1

    def compute(self, fake: FeatureBank) -> dict[str, float]:
        real, generated = (bank.features.to(bank.device) for bank in (self.real, fake))
        return precision_recall(real, generated, self.k)
