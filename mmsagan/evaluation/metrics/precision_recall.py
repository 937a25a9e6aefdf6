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
    # Centred and scaled, so that squared distances are exact to about 1e-6 in float32, in which matrix products are fast.
    real, fake = real - real.mean(0), fake - real.mean(0)
    largest = max(real.norm(dim=1).max(), fake.norm(dim=1).max()).clamp(min=1e-30)
    real, fake = ((features / largest).float() for features in (real, fake))
    # Radii of equal points are not quite 0, as are their distances.
    real_radius, fake_radius = (_squared_radii(features, k) + 1e-6 for features in (real, fake))
    in_real, covered, recalled = [], *(torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    real_squares = real.square().sum(1)
    for rows, radius in zip(fake.split(_ROWS), fake_radius.split(_ROWS)):
        distances = _squared_distances(rows, real, real_squares)
        inside = distances <= real_radius
        in_real.append(inside.sum(1))
        covered |= inside.any(0)
        recalled |= (distances <= radius[:, None]).any(0)
    counts = torch.cat(in_real).double()
    return dict(
        precision=float((counts > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(counts.mean() / k),
        coverage=float(covered.double().mean()),
    )


def _squared_distances(rows: Tensor, columns: Tensor, column_squares: Tensor) -> Tensor:
    product = torch.addmm(column_squares, rows, columns.T, alpha=-2)
    return product.add_(rows.square().sum(1, keepdim=True))


def _squared_radii(features: Tensor, k: int) -> Tensor:
    """Squared distance of each sample to its k-th nearest neighbour, (N,)."""
    features = features - features.mean(0)
    squares = features.square().sum(1)
    # k + 1, since the nearest is the sample itself
    nearest = [_squared_distances(rows, features, squares).topk(k + 1, 1, largest=False) for rows in features.split(_ROWS)]
    return torch.cat([values[:, -1] for values, _ in nearest])


@METRICS.register_module()
class PrecisionRecall(FeatureMetric):
    """Improved precision and recall, density and coverage of the samples; 1 is best, and density may exceed it.

    Of VGG16's features, as in StyleGAN, MMGeneration and MMagic; of another extractor's, it is named ``PR-inception``, for
    example. Keeps all features: 16 KiB per sample and real image.

    Args:
        fake_nums: Number of samples.
        real_nums: Number of real images, drawn at random; -1 for all. The paper takes as many as samples.
        k: Which neighbour a ball reaches to.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.
    """

    short_name = 'PR'
    default_style = 'vgg16'
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
