"""Samples, interpolations and attention maps from Python."""

import math

import numpy as np
import pytest
import torch
from mmengine.config import Config
from scipy import stats

from mmsagan.apis import attention_maps
from mmsagan.apis.sampling import class_names, interpolate, parse_classes, sample, slerp, truncate
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import Evaluator, SampleInputs
from mmsagan.registry import MODELS
from mmsagan.visualization import salient_queries


def build(config):
    torch.manual_seed(0)
    model = MODELS.build(config)
    for network in (model.generator, model.generator_ema):
        for parameter in () if network is None else network.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope='module')
def model(gan_config):
    return build(gan_config(ema_config=dict(momentum=0.9)))


def as_images(floats: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.clip(np.rint(floats.numpy() * 127.5 + 127.5), 0, 255).astype(np.uint8))


def draws(model, count, seed):
    return SampleInputs(16, model.num_classes, (seed, 0)).draw(0, count)


def differ(images, others) -> float:
    """Share of the values that differ; none by more than 1, the rounding of floats that differ in the last bits."""
    assert images.shape == others.shape
    difference = (images.int() - others.int()).abs()
    assert difference.max() <= 1
    return (difference > 0).float().mean().item()


def test_noise_and_labels_follow_from_the_seed(model):
    images = sample(model, 5, seed=3)
    assert images.shape == (5, 3, 32, 32) and images.dtype == torch.uint8
    noise, label = draws(model, 5, 3)
    assert torch.equal(images, as_images(model.sample(noise, label)))
    assert images.float().std() > 30 and not torch.equal(images[0], images[1])
    assert differ(sample(model, 70, seed=3)[:5], images) < 1e-3
    assert differ(sample(model, 5, seed=3, batch_size=2), images) < 1e-3
    assert not torch.equal(sample(model, 5, seed=4), images)


def test_the_samples_are_those_of_an_evaluation(model, monkeypatch):
    evaluator = Evaluator(dict(type='InceptionScore', fake_nums=6, splits=1, inception_style='digits'), seed=2)
    scored = []
    results = dict.fromkeys(evaluator.result_names, 0.0)
    monkeypatch.setattr(evaluator, 'score', lambda images, *_: scored.append(images) or results)
    evaluator.evaluate_model(model, None, 6)
    batch = next(scored[0].batches(6, 6, torch.device('cpu')))
    assert differ(sample(model, 6, seed=2), batch.images) < 1e-3


def test_without_a_seed_torch_decides(model):
    first, second = sample(model, 3), sample(model, 3)
    torch.manual_seed(0)  # as before each test
    assert torch.equal(sample(model, 3), first) and not torch.equal(first, second)


def test_given_labels_and_noise(model):
    for labels, expected in ((2, [2] * 16), (range(3), [0, 1, 2]), (np.array([1, 1]), [1, 1])):
        noise, _ = draws(model, len(expected), 0)
        assert torch.equal(sample(model, labels=labels, seed=0), as_images(model.sample(noise, torch.tensor(expected))))
    noise = torch.randn(4, 16)
    expected = as_images(model.sample(noise, torch.ones(4, dtype=torch.long)))
    assert torch.equal(sample(model, noise=noise, labels=1), expected)
    assert torch.equal(sample(model, noise=noise.double().numpy(), labels=[1] * 4), expected)
    weights = torch.tensor([[0.0, 1.0, 0.0]]).expand(4, -1)
    assert differ(sample(model, noise=noise, labels=weights), expected) < 1e-3


def test_which_network_is_sampled(model):
    noise, label = draws(model, 2, 0)
    for name, network in (('orig', model.generator), ('ema', model.generator_ema)):
        assert torch.equal(sample(model, 2, seed=0, sample_model=name), as_images(network(noise, label).detach()))
    assert torch.equal(sample(model, 2, seed=0), sample(model, 2, seed=0, sample_model='ema'))


@pytest.mark.parametrize(
    'function, argument, value',
    [
        (sample, 'label', dict(labels=3)),
        (sample, 'class weights', dict(labels=torch.rand(2, 4))),
        (sample, 'noise', dict(noise=torch.randn(2, 15))),
        (sample, 'truncation', dict(truncation=math.nan)),
        (sample, 'sample_model', dict(sample_model='best')),
        (interpolate, 'labels', dict(labels=(0, 1, 2))),
        (attention_maps, 'query 32,0', dict(queries=[(32, 0)])),
        (attention_maps, 'queries', dict(queries=[(0.5, 0)])),
        (attention_maps, 'queries', dict(queries=[[(0, 0)]] * 3)),
        (attention_maps, 'batch_size', dict(batch_size=0)),
    ],
)
def test_wrong_arguments(model, function, argument, value):
    with pytest.raises(ConfigError, match=argument):
        function(model, **value)


def test_a_diverged_generator(gan_config):
    model = build(gan_config())
    model.generator.noise2feat.bias.data[0] = math.nan
    with pytest.raises(DataError, match='NaN'):
        sample(model, 1)


@pytest.mark.parametrize('truncation', [0.04, 0.5, 2.0, 9.0])
def test_truncation_keeps_the_quantile(truncation, model):
    noise = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    expected = stats.truncnorm(-truncation, truncation).ppf(stats.norm.cdf(noise.numpy()))
    np.testing.assert_allclose(truncate(noise, truncation), expected, rtol=1e-6, atol=1e-9 * truncation)
    noise, label = draws(model, 3, 1)
    images = as_images(model.sample(truncate(noise, truncation), label))
    for given in (dict(seed=1), dict(noise=noise, labels=label)):  # noise of the caller, too
        assert torch.equal(sample(model, 3, truncation=truncation, **given), images)


def test_truncation_at_its_limits():
    noise = torch.tensor([0.0, 1e-30, 1e-3, 1.0, 3.0, 6.0, 9.0, 20.0, 45.0, 1e4], dtype=torch.float64)
    for truncation in (1e-30, 1.0, 40.0, math.inf):
        result = truncate(noise, truncation)
        assert result.isfinite().all() and (result.diff() >= 0).all() and torch.equal(truncate(-noise, truncation), -result)
        assert result.max() <= truncation and (result <= noise).all()
    torch.testing.assert_close(result[:8], noise[:8], rtol=1e-9, atol=1e-15)


SHARE = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]


def test_slerp_equals_the_formula():
    start, end = torch.randn(2, 9, dtype=torch.float64)
    angle = math.acos(start @ end / (start.norm() * end.norm()))
    expected = (torch.sin((1 - SHARE) * angle) * start + torch.sin(SHARE * angle) * end) / math.sin(angle)
    torch.testing.assert_close(slerp(start, end, SHARE), expected)


@pytest.mark.parametrize('turn', [0.0, 1e-5, 1.0, math.pi - 1e-5])
def test_slerp_keeps_length_and_speed(turn):
    start, end = torch.zeros(2, 4, dtype=torch.float64)
    start[0], end[0], end[2] = 3, 3 * math.cos(turn), 3 * math.sin(turn)
    path = slerp(start, end, SHARE)
    assert torch.equal(path[0], start)
    torch.testing.assert_close(path[-1], end)
    torch.testing.assert_close(path.norm(dim=1), torch.full((5,), 3, dtype=torch.float64))
    chord = 2 * 3 * math.sin(turn / 8)
    torch.testing.assert_close(path.diff(dim=0).norm(dim=1), torch.full((4,), chord, dtype=torch.float64), rtol=1e-4, atol=1e-9)


def test_from_noise_to_noise(model):
    noise, label = draws(model, 2, 6)
    images = interpolate(model, 5, seed=6)
    expected = sample(model, noise=noise, labels=int(label[0]))
    assert images.shape == (5, 3, 32, 32) and differ(images[[0, -1]], expected) < 1e-3
    middle = slerp(*noise.double(), torch.full((1, 1), 0.5, dtype=torch.float64))
    assert differ(images[2:3], as_images(model.sample(middle.float(), label[:1]))) < 1e-3
    assert differ(interpolate(model, 5, noise=noise, labels=label[0]), images) < 1e-3


def test_from_class_to_class(model):
    noise, _ = draws(model, 1, 6)
    images = interpolate(model, 3, labels=(2, 0), seed=6)
    assert differ(images[[0, -1]], sample(model, noise=noise.expand(2, -1), labels=[2, 0])) < 1e-3
    halfway = model.sample(noise, torch.tensor([[0.5, 0.0, 0.5]]))
    assert differ(images[1:2], as_images(halfway)) < 1e-3
    for given in (noise, noise[0]):
        assert torch.equal(interpolate(model, 3, noise=given, labels=[2, 0]), images)


def test_classes_on_the_command_line():
    assert parse_classes('1,5,7-9') == [1, 5, 7, 8, 9] and parse_classes('2,1-2') == [2, 1]
    names = [*'0', '1', '10', '2', 'cat', 'T-shirt, top', 'twin', 'twin', '2024-01']
    for text, labels in {
        '2': [2],  # a number is a label
        '=2,cat,=10': [3, 4, 2],
        'T-shirt, top': [5],
        '2024-01,0-1': [8, 0, 1],
    }.items():
        assert parse_classes(text, names) == labels
    for text in ('twin', 'catt', '=11', 'cat,', '='):
        with pytest.raises(ConfigError, match='twin.*6, 7' if text == 'twin' else text):
            parse_classes(text, names)
    for text in ('', 'a', '1,', '-1', '3-', '2-1', '0-9999999999', '1,2;', '1.5,2'):
        with pytest.raises(ConfigError):
            parse_classes(text)


@pytest.mark.parametrize(
    'dataset, count, expected',
    [
        (dict(type='CIFAR10', data_root='gone'), 10, ['airplane', 'automobile']),  # known without its files
        (dict(type='ImageNet'), 3, ['n01440764', 'n01443537']),
        (dict(type='ImageNet', data_root='gone'), 3, ['0', '1']),
    ],
)
def test_class_names(imagenet_root, dataset, count, expected):
    dataset = dict(dict(data_root=str(imagenet_root)), **dataset)
    for loaders in (dict(train_dataloader=dict(dataset=dataset)), dict(test_dataloader=dict(dataset=dataset))):
        assert class_names(Config(loaders), count)[:2] == expected
    assert class_names(Config({}), 2) == ['0', '1']


@pytest.fixture(scope='module')
def settled_model(gan_config, settle):
    torch.manual_seed(0)
    return settle(MODELS.build(gan_config())).eval()


@pytest.mark.parametrize('arguments', [dict(num_samples=3), dict(labels=1, truncation=0.5, num_samples=2)])
def test_the_images_are_those_of_sample(settled_model, arguments):
    result = attention_maps(settled_model, [(1, 2), (30, 5)], seed=4, **arguments)
    assert torch.equal(result.images, sample(settled_model, seed=4, **arguments))
    count = len(result.images)
    assert result.queries.tolist() == [[[1, 2], [30, 5]]] * count
    assert {name: maps.shape for name, maps in result.maps.items()} == {'feat16': (count, 2, 32, 32)}


def test_batches_change_nothing(settled_model):
    queries = np.random.default_rng(0).integers(0, 32, (5, 3, 2))
    expected = attention_maps(settled_model, queries, 5, seed=1)
    result = attention_maps(settled_model, queries, 5, seed=1, batch_size=2)
    assert torch.equal(result.queries, torch.from_numpy(queries))
    torch.testing.assert_close(result.maps['feat16'], expected.maps['feat16'], rtol=1e-5, atol=1e-9)
    result = attention_maps(settled_model, 3, 5, seed=0, batch_size=2)
    assert torch.equal(result.queries, salient_queries(result.images, 3))
    assert result.maps['feat16'].shape == (5, 3, 32, 32)
