import numpy as np
import pytest

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import precision_recall
from mmsagan.evaluation.metrics.precision_recall import _ROWS


def reference(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """The definitions, sample by sample."""

    def radius(point, own):
        return sorted(np.linalg.norm(own - point, axis=1))[k]

    real_balls = [(centre, radius(centre, real)) for centre in real]
    fake_balls = [(centre, radius(centre, fake)) for centre in fake]

    def balls_around(point, balls):
        return sum(np.linalg.norm(point - centre) <= size for centre, size in balls)

    return dict(
        precision=np.mean([balls_around(point, real_balls) > 0 for point in fake]),
        recall=np.mean([balls_around(point, fake_balls) > 0 for point in real]),
        density=np.mean([balls_around(point, real_balls) for point in fake]) / k,
        coverage=np.mean([any(np.linalg.norm(point - centre) <= size for point in fake) for centre, size in real_balls]),
    )


@pytest.mark.parametrize('k', [1, 3, 5])
@pytest.mark.parametrize('shift', [0.0, 1.0, 100.0])
def test_definitions(k, shift):
    random = np.random.RandomState(0)
    real, fake = random.randn(40, 4), random.randn(30, 4) * 0.7 + shift
    assert precision_recall(real, fake, k) == pytest.approx(reference(real, fake, k), rel=1e-12)


def test_more_samples_than_are_compared_at_a_time():
    random = np.random.RandomState(1)
    real, fake = random.randn(_ROWS + 30, 2), random.randn(_ROWS + 10, 2)
    whole = precision_recall(real, fake)
    radius = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)[:, 3]
    inside = np.linalg.norm(fake[:, None] - real, axis=2) <= radius
    assert whole['precision'] == inside.any(1).mean() and whole['coverage'] == inside.any(0).mean()


def test_a_set_with_itself_and_with_a_far_one():
    real = np.random.RandomState(2).randn(50, 3)
    same = precision_recall(real, real)
    assert same['precision'] == same['recall'] == same['coverage'] == 1
    assert set(precision_recall(real, real + 1000).values()) == {0}


def test_many_equal_samples():
    """A collapsed generator: eight copies each of five images, whose distances are 0 but for rounding."""
    real = np.repeat(np.random.RandomState(4).rand(5, 300) * 10, 8, axis=0)
    shares = precision_recall(real, real)
    assert shares == pytest.approx(dict(precision=1, recall=1, density=8 / 3, coverage=1))


def test_wrong_input():
    real = np.random.RandomState(3).randn(5, 3)
    with pytest.raises(ConfigError, match='k=5 must be at least 1 and below the 5 samples'):
        precision_recall(real, real, k=5)
    with pytest.raises(DataError, match='NaN or Inf'):
        precision_recall(real, real * np.inf)
