"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), AuthPct (Alaa et al. 2022)."""

import torch
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.evaluation.images import deterministic_float32
from mmsagan.evaluation.metrics.base import FeatureMetric, as_features
from mmsagan.evaluation.moments import FeatureBank
from mmsagan.registry import METRICS

_ROWS = 1024  # samples whose distances are computed at a time


@deterministic_float32()
def precision_recall(real_features, fake_features, k: int = 3, density_k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of features (N, D) and (M, D), arrays or tensors.

    Each sample is the centre of a ball that reaches to its ``k``-th nearest neighbour in its own set, for density and
    coverage to the ``density_k``-th. The defaults are those of the papers.

    ``precision`` is the share of fakes in a real ball, ``recall`` the share of real images in a fake ball, ``density`` the mean
    number of real balls that contain a fake, divided by density_k, and ``coverage`` the share of real balls that contain one.
    """
    real, fake = as_features(real_features, fake_features)
    size = min(len(real), len(fake))
    if not (1 <= k < size and 1 <= density_k < size):
        raise ConfigError(f'precision and recall: {k=} and {density_k=} must be at least 1 and below the {size} samples')
    # In float32, in which matrix products are fast, squared distances are exact to about 1e-6 of squared norms. Centred, these
    # are small; scaled, they do not overflow.
    real, fake = real - real.mean(0), fake - real.mean(0)
    largest = max(real.norm(dim=1).max(), fake.norm(dim=1).max()).clamp(min=1e-30)
    real, fake = ((features / largest).float() for features in (real, fake))
    real_squares, fake_squares = (features.square().sum(1) for features in (real, fake))
    # Radii of equal points are not quite 0, as are their distances. A sample is its own nearest neighbour.
    radii = nearest_neighbours(real, real, max(k, density_k) + 1)[0] + 2e-6 * real_squares[:, None]
    fake_radius = nearest_neighbours(fake, fake, k + 1)[0][:, k:] + 2e-6 * fake_squares[:, None]
    precise, counts = [], []
    recalled, covered = torch.zeros(2, len(real), dtype=torch.bool, device=real.device)
    for rows, radius in zip(fake.split(_ROWS), fake_radius.split(_ROWS)):
        distances = _squared_distances(rows, real, real_squares)
        precise.append((distances <= radii[:, k]).any(1))
        recalled |= (distances <= radius).any(0)
        inside = distances <= radii[:, density_k]
        counts.append(inside.sum(1))
        covered |= inside.any(0)
    density = torch.cat(counts).double() / density_k
    found = dict(precision=torch.cat(precise), recall=recalled, density=density, coverage=covered)
    return {name: float(values.double().mean()) for name, values in found.items()}


def _squared_distances(rows: Tensor, columns: Tensor, column_squares: Tensor) -> Tensor:
    product = torch.addmm(column_squares, rows, columns.T, alpha=-2)
    return product.add_(rows.square().sum(1, keepdim=True))


def nearest_neighbours(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances (N, k) of queries (N, D) to their nearest points (M, D), in ascending order, and the points' rows."""
    centre = points.mean(0)
    points = points - centre
    squares = points.square().sum(1)
    blocks = (_squared_distances(rows - centre, points, squares) for rows in queries.split(min(_ROWS, 2**28 // len(points))))
    distances, rows = zip(*(block.topk(k, 1, largest=False) for block in blocks))
    return torch.cat(distances), torch.cat(rows)


@deterministic_float32()
def authenticity(real_features, fake_features) -> float:
    """Percentage of fakes (M, D) whose nearest real image (N, D) is nearer to another real image than to them.

    The others may be copies of training images. Source: Alaa et al. 2022, as in dgm-eval (Stein et al. 2023).
    """
    real, fake = as_features(real_features, fake_features)
    if len(real) < 2 or not len(fake):
        raise ConfigError(f'authenticity: needs 2 real images and a fake, got {len(real)} and {len(fake)}')
    nearest = nearest_neighbours(fake, real, 1)[1][:, 0]
    used, place = nearest.unique(return_inverse=True)
    first, second = nearest_neighbours(real[used], real, 2)[1].T  # one of them is the image itself, or both are its copies
    other = torch.where(first == used, second, first)
    # By differences, since of copies the squared distances above are not quite 0.
    radius, distance = (real[used] - real[other]).norm(dim=1), (fake - real[nearest]).norm(dim=1)
    return 100 * float((radius[place] < distance).double().mean())


@METRICS.register_module()
class PrecisionRecall(FeatureMetric):
    """Improved precision and recall, density and coverage of the samples; 1 is best, and density may exceed it.

    Of VGG16's features, as in StyleGAN, MMGeneration and MMagic; of another extractor's, it is named ``PR-inception``, for
    example. Keeps all features: 16 KiB per sample and real image. See :func:`precision_recall`.
    """

    short_name = 'PR'
    default_style = 'vgg16'
    results = ('precision', 'recall', 'density', 'coverage')

    def __init__(self, fake_nums: int = 50000, real_nums: int = 50000, k: int = 3, density_k: int = 5, **kwargs):
        super().__init__(fake_nums, real_nums=real_nums, **kwargs)
        if not (1 <= k < fake_nums and 1 <= density_k < fake_nums):
            raise ConfigError(f'{self.prefix}: {k=} and {density_k=} must be at least 1 and below fake_nums={fake_nums}')
        self.neighbours = k, density_k
        self.min_real = max(k, density_k) + 1

    def compute(self, fake: FeatureBank) -> dict[str, float]:
        real, generated = (bank.features.to(bank.device) for bank in (self.real, fake))
        return precision_recall(real, generated, *self.neighbours)


@METRICS.register_module()
class AuthPct(FeatureMetric):
    """Percentage of the samples that are not copies of training images: ``authpct``. See :func:`authenticity`.

    Keeps all features, as :class:`PrecisionRecall`. Held-out images show what percentage is to be expected.
    """

    short_name = 'AuthPct'
    results = ('authpct',)
    min_real = 2

    def compute(self, fake: FeatureBank) -> dict[str, float]:
        return dict(authpct=authenticity(*(bank.features.to(bank.device) for bank in (self.real, fake))))
