import numpy as np
import pytest
import torch

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import InceptionScore, inception_score
from mmsagan.evaluation.accumulators import SplitScores


def reference(probs: np.ndarray, splits: int) -> tuple[float, float]:
    """The definition: exp E KL(p(y|x) || p(y)) in every split, term by term."""
    scores = []
    for split in range(splits):
        part = probs[split * len(probs) // splits : (split + 1) * len(probs) // splits]
        marginal = part.mean(0)
        divergences = [sum(p * np.log(p / m) for p, m in zip(row, marginal) if p > 0) for row in part]
        scores.append(np.exp(np.mean(divergences)))
    return float(np.mean(scores)), float(np.std(scores))


def random_probs(samples: int, classes: int) -> np.ndarray:
    return np.random.RandomState(0).dirichlet(np.full(classes, 0.3), samples)


@pytest.mark.parametrize('samples, splits', [(60, 1), (60, 10), (57, 10), (10, 10)])
def test_definition(samples, splits):
    probs = random_probs(samples, 7)
    assert inception_score(probs, splits) == pytest.approx(reference(probs, splits), rel=1e-9)


@pytest.mark.parametrize(
    'probs, expected',
    [
        (torch.eye(10).repeat(3, 1), 10.0),  # certain and even: the number of classes
        (torch.full((30, 10), 0.1), 1.0),  # nothing recognized
        (torch.eye(10)[:1].repeat(30, 1), 1.0),  # always the same class
        (torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]), np.exp(0.5 * np.log(2))),
    ],
)
def test_by_hand(probs, expected):
    assert inception_score(probs, splits=1) == pytest.approx((expected, 0), rel=1e-7)


def test_any_order_and_any_parts():
    probs = torch.tensor(random_probs(53, 5))
    scores = SplitScores(53, 5, splits=4)
    for index in torch.randperm(53).split(7):
        scores.update(probs[index], index)
    scores.finish()
    assert float(scores.scores.mean()) == pytest.approx(reference(probs.numpy(), 4)[0], rel=1e-9)


@pytest.mark.parametrize('probs', [np.ones((5, 3)), np.array([[-1.0, 2.0]]), np.ones(3) / 3, np.full((2, 3), np.nan)])
def test_no_probabilities(probs):
    with pytest.raises(DataError, match='class probabilities'):
        inception_score(probs)


def test_more_splits_than_samples():
    with pytest.raises(ConfigError, match='splits=10 of 3 samples'):
        inception_score(np.eye(3), splits=10)
    with pytest.raises(ConfigError, match='splits=10 must lie between 1 and fake_nums=5'):
        InceptionScore(fake_nums=5, inception_style='digits')
