import itertools

import numpy as np
import pytest

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import kernel_distance


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of the squared discrepancy, pair by pair."""

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    same = [np.mean([kernel(a, b) for a, b in itertools.permutations(side, 2)]) for side in (x, y)]
    return sum(same) - 2 * np.mean([kernel(a, b) for a, b in itertools.product(x, y)])


def features(samples: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.RandomState(seed).randn(samples, 6) + shift


@pytest.mark.parametrize('sizes', [(12, 12), (8, 15), (2, 2)])
def test_whole_sets(sizes):
    x, y = features(sizes[0], 0), features(sizes[1], 1, 0.5)
    mean, std = kernel_distance(x, y)
    assert mean == pytest.approx(reference(x, y), rel=1e-9) and std == 0


def test_subsets_are_unbiased_and_repeatable():
    """The mean over all subsets is the value of the whole sets; many random ones come near."""
    x, y = features(40, 2), features(40, 3, 0.5)
    mean, std = kernel_distance(x, y, num_subsets=4000, subset_size=10)
    assert mean == pytest.approx(reference(x, y), abs=4 * std / np.sqrt(4000))
    assert kernel_distance(x, y, 5, 10, seed=1) == kernel_distance(x, y, 5, 10, seed=1) != kernel_distance(x, y, 5, 10, seed=2)


def test_nearer_sets_have_a_smaller_distance():
    x = features(200, 4)
    near, far = (kernel_distance(x, features(200, 5, shift))[0] for shift in (0.0, 1.0))
    assert abs(near) < 0.1 * far


def test_wrong_features():
    with pytest.raises(DataError, match='same length'):
        kernel_distance(features(5, 0), features(5, 0)[:, :3])
    with pytest.raises(DataError, match='NaN or Inf'):
        kernel_distance(features(5, 0), features(5, 0) * np.nan)
    with pytest.raises(ConfigError, match='at least 2'):
        kernel_distance(features(1, 0), features(5, 0))
