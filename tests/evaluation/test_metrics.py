import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.distance import cdist

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import (
    FrechetInceptionDistance,
    KernelInceptionDistance,
    Statistics,
    authenticity,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    save_statistics,
)
from mmsagan.evaluation.metrics import kid
from mmsagan.evaluation.metrics.fid import frechet_distance_at_infinity
from mmsagan.evaluation.metrics.inception_score import SplitSums
from mmsagan.evaluation.metrics.kid import _ROWS as _SUBSET_ROWS
from mmsagan.evaluation.metrics.kid import draw_subsets
from mmsagan.evaluation.metrics.precision_recall import _ROWS

CPU = torch.device('cpu')


def fid_by_scipy(mean1, cov1, mean2, cov2) -> float:
    """The definition, by scipy's square root of a matrix."""
    root = scipy.linalg.sqrtm(cov1 @ cov2)
    return float(np.sum((mean1 - mean2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(root).real)


def random_normal(size: int, samples: int, seed: int, scales=1.0):
    values = np.random.RandomState(seed).randn(samples, size) @ np.random.RandomState(seed + 100).randn(size, size) * scales
    return values.mean(0), np.cov(values, rowvar=False).reshape(size, size)


@pytest.mark.parametrize(
    'size, samples, scales, rel', [(1, 10, 1.0, 1e-9), (64, 500, 1.0, 1e-9), (40, 400, np.logspace(0, -5, 40), 1e-6)]
)
def test_fid_of_well_and_ill_conditioned_covariances(size, samples, scales, rel):
    first, second = random_normal(size, samples, 2, scales), random_normal(size, samples, 3, scales)
    assert rel < 1e-6 or np.linalg.cond(first[1]) > 1e8
    assert frechet_distance(*first, *second) == pytest.approx(fid_by_scipy(*first, *second), rel=rel)


@pytest.mark.parametrize('singular', ['first', 'second', 'both'])
def test_fid_of_singular_covariances(singular):
    """Fewer samples than features. The reference is the definition with the root of a symmetric matrix."""
    first = random_normal(30, 10 if singular != 'second' else 200, 4)
    second = random_normal(30, 10 if singular != 'first' else 200, 5)
    values, vectors = scipy.linalg.eigh(first[1])
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ second[1] @ root).clip(0)).sum()
    expected = np.sum((first[0] - second[0]) ** 2) + np.trace(first[1]) + np.trace(second[1]) - 2 * cross
    assert frechet_distance(*first, *second) == pytest.approx(expected, rel=1e-6)


def test_fid_to_itself_symmetry_and_tensors_of_any_type():
    first, second = random_normal(30, 10, 7), random_normal(30, 100, 8)
    for size, samples, seed in itertools.product((3, 30, 64), (10, 100), range(3)):
        one = random_normal(size, samples, seed)
        distance = frechet_distance(*one, *one)
        assert 0 <= distance < 1e-5 * np.trace(one[1]) and not f'{distance:.4f}'.startswith('-')
    assert frechet_distance(*first, *second) == pytest.approx(frechet_distance(*second, *first), rel=1e-6)
    assert frechet_distance(np.zeros(3), np.zeros((3, 3)), np.zeros(3), np.zeros((3, 3))) == 0
    eye = torch.eye(2)
    assert frechet_distance(torch.zeros(2), eye, np.ones(2), 4 * eye.half()) == pytest.approx(2 + 2 * (2 - 1) ** 2)


@pytest.mark.parametrize('sizes', [(20, 25), (200, 25), (25, 200)])
def test_frechet_distance_of_singular_covariances(sizes):
    """With S1 = A A' and S2 = B B', the trace of (S1 S2)^(1/2) is the sum of the singular values of A' B."""
    sets = [np.random.RandomState(n).randn(n, 120) * np.geomspace(1e-3, 1e3, 120) for n in sizes]
    factors = [(x - x.mean(0)).T / np.sqrt(len(x) - 1) for x in sets]
    cross = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    expected = ((sets[0].mean(0) - sets[1].mean(0)) ** 2).sum() + sum((f**2).sum() for f in factors) - 2 * cross
    moments = [value for x in sets for value in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(*moments) == pytest.approx(expected, rel=1e-8)


class SetOfImages:
    name, seed = 'a set', 0
    fingerprint = dict(images=200, image_size=[32, 32], transforms=['Resize(32)'], names='a1', contents='b2')

    def __len__(self):
        return 200


@pytest.mark.parametrize(
    'content, options, message',
    [
        (dict(size=1), {}, 'size=1'),
        (dict(mean=np.zeros(32), cov=np.eye(32)), {}, '32 features'),
        (dict(extractor='another'), {}, "'another'.*'digits'"),
        (dict(whole=False), {}, 'real_nums=-1'),
        (dict(content={'images': 199}), {}, 'images=199, not 200'),
        (dict(content={'images': 200, 'names': 'a2'}), {}, 'names'),
        (dict(content={'images': 200, 'contents': 'b1'}), {}, 'contents'),
        (dict(content={'images': 200, 'transforms': ['Resize(24)']}), {}, r'Resize\(24'),
        (dict(content={'images': 200, 'image_size': [24, 24]}), {}, 'image_size.*24.*32'),
        (dict(content={'images': 200, 'extractor': {'path': 'c3'}}), {}, 'extractor.*c3'),
        (dict(whole=False, content={'images': 200, 'selection': 'first'}), dict(real_nums=100), 'first.*random'),
        (dict(size=100), dict(real_nums=90), 'real_nums=90'),
    ],
)
def test_statistics_that_are_not_those_of_the_metric(tmp_path, content, options, message):
    path = tmp_path / 'statistics.pkl'
    save_statistics(Statistics(**dict(dict(mean=np.zeros(64), cov=np.eye(64), size=100, extractor='digits'), **content)), path)
    metric = FrechetInceptionDistance(fake_nums=100, inception_pkl=str(path), inception_style='digits', **options)
    with pytest.raises((ConfigError, DataError), match=f'statistics.pkl.*{message}'):
        metric.check(64, None, SetOfImages())


def score_by_definition(probs: np.ndarray, splits: int) -> tuple[float, float]:
    """exp E KL(p(y|x) || p(y)) in every split, term by term."""
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
def test_inception_score_by_its_definition(samples, splits):
    probs = random_probs(samples, 7)
    assert inception_score(probs, splits) == pytest.approx(score_by_definition(probs, splits), rel=1e-9)
    assert inception_score(torch.eye(10).repeat(3, 1), splits=1) == pytest.approx((10, 0)), 'certain and even'


def test_inception_score_of_any_order_and_any_batches():
    probs = torch.tensor(random_probs(53, 5))
    sums = SplitSums(53, 5, splits=4)
    for index in torch.randperm(53).split(7):
        sums.update(probs[index], index)
    sums.finish()
    assert float(sums.scores.mean()) == pytest.approx(score_by_definition(probs.numpy(), 4)[0], rel=1e-9)


def kid_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of the squared discrepancy."""
    xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    same = [kernel[~np.eye(len(kernel), dtype=bool)].mean() for kernel in (xx, yy)]
    return sum(same) - 2 * xy.mean()


def random_features(samples: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.RandomState(seed).randn(samples, 6) + shift


@pytest.mark.parametrize('sizes', [(12, 12), (8, 15), (2, 2), (_SUBSET_ROWS + 1, 2 * _SUBSET_ROWS + 5)])
def test_kid_of_whole_sets(sizes):
    x, y = random_features(sizes[0], 0), random_features(sizes[1], 1, 0.5)
    mean, std = kernel_distance(x, y, subset_size=3000)
    assert mean == pytest.approx(kid_by_definition(x, y), rel=1e-9) and std == 0
    assert kernel_distance(torch.from_numpy(x).requires_grad_(), y, subset_size=3000)[0] == mean


def test_kid_of_subsets_is_unbiased_and_repeatable():
    x, y = random_features(40, 2), random_features(40, 3, 0.5)
    mean, std = kernel_distance(x, y, num_subsets=4000, subset_size=10)
    assert mean == pytest.approx(kid_by_definition(x, y), abs=4 * std / np.sqrt(4000))
    assert kernel_distance(x, y, 5, 10, seed=1) == kernel_distance(x, y, 5, 10, seed=1) != kernel_distance(x, y, 5, 10, seed=2)


def test_kid_in_float32_is_exact(monkeypatch):
    """Sparse and positive features, as Inception's, and a distance that is a thousandth of the kernels."""
    x, y = (np.maximum(np.random.RandomState(seed).randn(700, 512) + 0.5, 0).astype(np.float32) for seed in range(2))
    y[:, 0] += 1
    expected = kid_by_definition(x.astype(np.float64), y.astype(np.float64))
    assert kernel_distance(x, y)[0] == pytest.approx(expected, rel=1e-6) and expected < 0.03
    monkeypatch.setattr(torch.Tensor, 'to', lambda self, device: self)  # a GPU's code, on the CPU
    on_gpu = kid._over_subsets([torch.from_numpy(x), torch.from_numpy(y)], [[np.arange(700)]] * 2, [], 'cuda')
    assert on_gpu[0] == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def kid_metric():
    return KernelInceptionDistance(60, num_subsets=7, subset_size=10, inception_style='digits')


def fill(metric, features: np.ndarray, is_real: bool, missing=()):
    """An accumulator of the features but for those of missing images, in batches that are not in order."""
    bank = metric.new_accumulator(len(features), features.shape[1], CPU, is_real)
    for index in reversed(torch.arange(len(features)).split(7)):
        index = index[~torch.isin(index, torch.tensor(missing, dtype=torch.long))]
        bank.update(torch.from_numpy(features)[index], index, index)
    bank.finish()
    return bank


def test_kid_of_a_metric_is_that_of_the_function(kid_metric):
    real = random_features(200, 4).astype(np.float32)
    bank = fill(kid_metric, real, is_real=True)
    kid_metric.take_real(bank, None)
    assert len(bank.features) == len(np.unique(bank.subsets)) <= 70, 'only the subsets are kept'
    for seed, size in ((5, 60), (6, 60), (7, 9)):  # the real images' part is computed once; nine samples are one subset
        fake = random_features(size, seed, 0.5).astype(np.float32)
        result = kid_metric.compute(fill(kid_metric, fake, is_real=False))
        assert tuple(result.values()) == pytest.approx(kernel_distance(real, fake, 7, 10), rel=1e-5)


def test_kid_without_unreadable_images(kid_metric):
    real, fake = random_features(50, 8), random_features(60, 9, 0.5)
    missing = [3, 11, 12, 40]
    kid_metric.take_real(fill(kid_metric, real, True, missing), None)
    result = kid_metric.compute(fill(kid_metric, fake, False, missing))
    rows = [
        [np.setdiff1d(subset, missing) for subset in draw_subsets(size, 7, 10, 0, is_real)]
        for size, is_real in ((50, True), (60, False))
    ]
    distances = [kid_by_definition(real[x], fake[y]) for x, y in zip(*rows)]
    assert result == pytest.approx(dict(kid=np.mean(distances), kid_std=np.std(distances)), rel=1e-4)
    assert any(len(x) < 10 for x in rows[0])


def shares_by_definition(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """With all distances at once, and one k."""
    real_radius, fake_radius = (np.sort(cdist(own, own))[:, k] for own in (real, fake))
    distances = cdist(fake, real)
    inside = distances <= real_radius
    return dict(
        precision=inside.any(1).mean(),
        recall=(distances <= fake_radius[:, None]).any(0).mean(),
        density=inside.sum() / k / len(fake),
        coverage=inside.any(0).mean(),
    )


@pytest.mark.parametrize('k, density_k', [(3, 5), (5, 3), (1, 1)])
@pytest.mark.parametrize('shift', [0.0, 1.0, 100.0])
def test_precision_and_recall_by_their_definitions(k, density_k, shift):
    random = np.random.RandomState(0)
    real, fake = random.randn(40, 4), random.randn(30, 4) * 0.7 + shift
    expected, dense = (shares_by_definition(real, fake, neighbour) for neighbour in (k, density_k))
    expected.update(density=dense['density'], coverage=dense['coverage'])
    assert precision_recall(real, fake, k, density_k) == pytest.approx(expected, rel=1e-12)


def test_more_samples_than_are_compared_at_a_time():
    random = np.random.RandomState(1)
    real, fake = random.randn(_ROWS + 30, 16), random.randn(_ROWS + 10, 16)
    assert precision_recall(real, fake, 3, 3) == pytest.approx(shares_by_definition(real, fake, 3), abs=1e-4)


def test_one_sample_that_is_far_from_all_others():
    random = np.random.RandomState(2)
    real, fake = random.randn(400, 8), random.randn(300, 8)
    real[0] *= 100
    assert precision_recall(real, fake, 3, 3) == pytest.approx(shares_by_definition(real, fake, 3), rel=1e-12)


def test_many_equal_samples():
    """A collapsed generator: eight copies each of five images, whose distances are 0 but for rounding."""
    real = np.repeat(np.random.RandomState(4).rand(5, 300) * 10, 8, axis=0)
    shares = precision_recall(real, real)
    assert shares == pytest.approx(dict(precision=1, recall=1, density=8 / 5, coverage=1))


def authenticity_by_definition(real: np.ndarray, fake: np.ndarray) -> float:
    distances, own = cdist(real, fake), cdist(real, real)
    np.fill_diagonal(own, np.inf)
    return 100 * np.mean(own.min(0)[distances.argmin(0)] < distances.min(0))


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_authenticity_by_its_definition(dtype):
    """Some samples are copies of training images, some training images are copies of others, and both."""
    random = np.random.RandomState(0)
    real, fake = random.randn(_ROWS + 40, 5).astype(dtype) + 10, random.randn(70, 5).astype(dtype) + 10
    real[30:50] = real[:20]
    fake[:40] = real[20:60]
    expected = authenticity_by_definition(real, fake)
    assert authenticity(real, fake) == pytest.approx(expected, abs=1e-9) and 0 < expected < 60
    assert authenticity(real, real) == 0 and authenticity(real, fake + 100) == 100


def test_fid_infinity_by_a_closed_form():
    """The distance of 400 samples is too high by about 0.08, that of infinitely many is known."""
    mean, scales = np.full(16, 0.1), np.linspace(0.6, 1.4, 16)
    estimates = []
    for seed in range(12):
        features = np.random.RandomState(seed).randn(400, 16) * scales + mean
        plain = frechet_distance(np.zeros(16), np.eye(16), features.mean(0), np.cov(features, rowvar=False))
        estimates.append((plain, frechet_distance_at_infinity(np.zeros(16), np.eye(16), torch.from_numpy(features))))
    errors = np.mean(estimates, axis=0) - (mean @ mean + ((scales - 1) ** 2).sum())
    standard_error = np.std(estimates, axis=0) / np.sqrt(12)
    assert errors[0] > 3 * standard_error[0] and abs(errors[1]) < 2 * standard_error[1]


def reference_features() -> tuple[np.ndarray, np.ndarray]:
    """Real and fake features (1000, 32), of which three in ten are nearly copies of real ones."""
    random = np.random.RandomState(0)
    real, fake = random.randn(1000, 32), 0.9 * random.randn(1000, 32) + 0.1
    fake[:300] = real[:300] + 0.1 * random.randn(300, 32)
    return real, fake


# Printed by tests/data/reference_values.py.
REFERENCE = {
    'clean-fid': dict(kid=0.0097927005),
    'dgm-eval': dict(
        **dict(fd=0.63870485, fd_infinity=0.34578653, authpct=42.599998),
        **dict(precision=0.917, recall=0.658, density=1.8826667, coverage=0.979),
    ),
    'prdc': dict(precision=0.953, recall=0.729, density=1.8378, coverage=0.998),
    'pytorch-fid': dict(fd=0.63870485),
    'torch-fidelity': dict(fd=0.63870485, kid=0.0097927005, precision=0.917, recall=0.65799999),
}


@pytest.mark.parametrize('program', REFERENCE)
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_numbers_of_other_programs(program, dtype):
    real, fake = (features.astype(dtype) for features in reference_features())
    k = 5 if program == 'prdc' else 3
    moments = [(features.mean(0), np.cov(features, rowvar=False)) for features in (real, fake)]
    ours = dict(
        fd=frechet_distance(*moments[0], *moments[1]),
        kid=kernel_distance(real, fake)[0],
        authpct=authenticity(real, fake),
        fd_infinity=frechet_distance_at_infinity(*moments[0], torch.from_numpy(fake)),
        **precision_recall(real, fake, k, k),
    )
    for name, value in REFERENCE[program].items():
        # Theirs is the mean over 100 random choices, whose standard deviation is 0.04.
        tolerance = dict(abs=0.08) if name == 'fd_infinity' else dict(rel=3e-4)
        assert ours[name] == pytest.approx(value, **tolerance), name


EYE, FEATURES = np.eye(2), np.random.RandomState(3).randn(5, 3)


@pytest.mark.parametrize(
    'function, arguments, error',
    [
        (frechet_distance, (np.zeros(2), EYE, np.array([0, np.nan]), EYE), DataError),
        (inception_score, (np.ones((5, 3)),), DataError),
        (inception_score, (np.full((2, 3), np.nan),), DataError),
        (inception_score, (EYE, 10), ConfigError),
        (kernel_distance, (FEATURES, FEATURES[:, :2]), DataError),
        (kernel_distance, (FEATURES[:1], FEATURES), ConfigError),
        (precision_recall, (FEATURES, FEATURES * np.inf), DataError),
        (authenticity, (FEATURES[:1], FEATURES), ConfigError),
        (precision_recall, (FEATURES, FEATURES, 5, 3), ConfigError),
        (precision_recall, (FEATURES, FEATURES, 3, 0), ConfigError),
    ],
)
def test_wrong_input(function, arguments, error):
    with pytest.raises(error):
        function(*arguments)
