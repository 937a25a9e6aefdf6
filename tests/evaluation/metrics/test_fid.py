import numpy as np
import pytest
import scipy.linalg
import torch

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import FrechetInceptionDistance, Moments, Statistics, frechet_distance, save_statistics


def reference(mean1, cov1, mean2, cov2) -> float:
    """The definition, by scipy's square root of a matrix."""
    root = scipy.linalg.sqrtm(cov1 @ cov2)
    return float(np.sum((mean1 - mean2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(root).real)


def random_normal(size: int, samples: int, seed: int, scales=1.0):
    values = np.random.RandomState(seed).randn(samples, size) @ np.random.RandomState(seed + 100).randn(size, size) * scales
    return values.mean(0), np.cov(values, rowvar=False)


@pytest.mark.parametrize('size, samples', [(1, 10), (5, 50), (64, 500)])
def test_well_conditioned(size, samples):
    first, second = random_normal(size, samples, 0), random_normal(size, samples, 1)
    first, second = ((mean, cov.reshape(size, size)) for mean, cov in (first, second))
    assert frechet_distance(*first, *second) == pytest.approx(reference(*first, *second), rel=1e-9)


def test_ill_conditioned():
    """Variances over ten orders of magnitude."""
    scales = np.logspace(0, -5, 40)
    first, second = random_normal(40, 400, 2, scales), random_normal(40, 400, 3, scales)
    assert np.linalg.cond(first[1]) > 1e8
    assert frechet_distance(*first, *second) == pytest.approx(reference(*first, *second), rel=1e-6)


@pytest.mark.parametrize('singular', ['first', 'second', 'both'])
def test_singular(singular):
    """Fewer samples than features. The reference is the definition with the root of a symmetric matrix, by its eigenvectors."""
    first = random_normal(30, 10 if singular != 'second' else 200, 4)
    second = random_normal(30, 10 if singular != 'first' else 200, 5)
    values, vectors = scipy.linalg.eigh(first[1])
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ second[1] @ root).clip(0)).sum()
    expected = np.sum((first[0] - second[0]) ** 2) + np.trace(first[1]) + np.trace(second[1]) - 2 * cross
    assert frechet_distance(*first, *second) == pytest.approx(expected, rel=1e-6)


def test_diagonal_closed_form():
    random = np.random.RandomState(6)
    mean1, mean2, variance1, variance2 = random.rand(4, 20) + 0.1
    expected = ((mean1 - mean2) ** 2).sum() + ((np.sqrt(variance1) - np.sqrt(variance2)) ** 2).sum()
    assert frechet_distance(mean1, np.diag(variance1), mean2, np.diag(variance2)) == pytest.approx(expected, rel=1e-10)


def test_a_distribution_to_itself_and_symmetry():
    first, second = random_normal(30, 10, 7), random_normal(30, 100, 8)
    assert abs(frechet_distance(*first, *first)) < 1e-5 * np.trace(first[1])
    assert frechet_distance(*first, *second) == pytest.approx(frechet_distance(*second, *first), rel=1e-6)
    assert frechet_distance(np.zeros(3), np.zeros((3, 3)), np.zeros(3), np.zeros((3, 3))) == 0


def test_tensors_of_any_type():
    eye = torch.eye(2)
    assert frechet_distance(torch.zeros(2), eye, np.ones(2), 4 * eye.half()) == pytest.approx(2 + 2 * (2 - 1) ** 2)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ((np.zeros(2), np.eye(2), np.zeros(3), np.eye(3)), r'shapes are \(2,\), \(2, 2\), \(3,\), \(3, 3\)'),
        ((np.zeros(2), np.eye(3), np.zeros(2), np.eye(2)), 'do not belong together'),
        ((np.zeros((1, 2)), np.eye(2), np.zeros(2), np.eye(2)), 'do not belong together'),
        ((np.zeros(2), np.eye(2), np.array([0, np.nan]), np.eye(2)), 'NaN or Inf'),
        ((np.zeros(2), np.eye(2) * np.inf, np.zeros(2), np.eye(2)), 'NaN or Inf'),
    ],
)
def test_wrong_statistics(arguments, message):
    with pytest.raises(DataError, match=message):
        frechet_distance(*arguments)


def test_the_metric_needs_more_samples_than_features():
    with pytest.raises(ConfigError, match='fake_nums=64 is too few for the covariance of 64 features; take at least 65'):
        FrechetInceptionDistance(fake_nums=64, inception_style='digits').check(64, None, None)
    with pytest.raises(ConfigError, match='real_nums=10 is too few'):
        FrechetInceptionDistance(fake_nums=100, real_nums=10, inception_style='digits').check(64, None, None)


class SetOfImages:
    name, content, classes = 'a set', '{"type": "one"}', None

    def __len__(self):
        return 200


def write_statistics(path, size=100, width=64, extractor='digits', content='', whole=True):
    save_statistics(Statistics(np.zeros(width), np.eye(width), size, extractor, 'a set', content, whole), path)
    return str(path)


@pytest.mark.parametrize(
    'content, options, message',
    [
        (dict(size=10), {}, 'size=10 is too few'),
        (dict(width=32), {}, "statistics of 32 features, but 'digits' gives 64"),
        (dict(extractor='another'), {}, "features of 'another', the metric uses 'digits'"),
        (dict(whole=False), {}, 'is of 100 random images, but real_nums=-1 means all'),
        (dict(content='{"type": "another"}'), {}, 'is of another data set, .*"another".* and not of .*"one"'),
        (dict(size=100), dict(real_nums=90), 'is of 100 images, but real_nums=90'),
    ],
)
def test_statistics_that_do_not_fit(tmp_path, content, options, message):
    path = write_statistics(tmp_path / 'statistics.pkl', **content)
    metric = FrechetInceptionDistance(fake_nums=100, inception_pkl=path, inception_style='digits', **options)
    with pytest.raises((ConfigError, DataError), match=message):
        metric.check(64, None, SetOfImages())


def test_statistics_from_a_file_and_to_a_file(tmp_path):
    metric = FrechetInceptionDistance(fake_nums=100, inception_pkl=str(tmp_path / 'new.pkl'), inception_style='digits')
    metric.check(64, None, None)
    assert metric.lacks_real
    real = Moments(64)
    real.update(torch.randn(200, 64))
    metric.take_real(real, SetOfImages())
    again = FrechetInceptionDistance(fake_nums=100, inception_pkl=str(tmp_path / 'new.pkl'), inception_style='digits')
    again.check(64, None, None)
    assert not again.lacks_real and again.statistics.size == 200 and again.statistics.name == 'a set'
    assert again.compute(real)['fid'] == pytest.approx(0, abs=1e-6)
