import math

import pytest

from mmsagan.errors import ConfigError
from mmsagan.web.checkpoints import Checkpoints
from mmsagan.web.requests import Look, SampleRequest, read_class, read_look, read_samples, read_seed


@pytest.fixture(scope='module')
def model(experiment):
    return Checkpoints(experiment.config, experiment.checkpoint).model()


def test_what_is_asked_for(model):
    assert read_samples(model, [3, 5.0], 2.0, 7, 100) == SampleRequest((3, 5), 2, 7)
    assert SampleRequest((3, 5), 2, 7).labels == [3, 3, 5, 5]
    for nothing in ([], None):
        assert read_samples(model, nothing, 100, 0, 100).labels is None


@pytest.mark.parametrize(
    'values, complaint',
    [
        (([10], 1, 0), 'class must be a whole number from 0 to 9, got 10'),
        (([-1], 1, 0), 'class must be'),
        ((['cat'], 1, 0), 'class must be'),
        (([True], 1, 0), 'class must be'),
        ((3, 1, 0), 'classes must be a list, got 3'),
        (('345', 1, 0), 'classes must be a list'),
        (([], 10_000, 0), 'number of images must be a whole number from 1 to 100, got 10000'),
        (([], 0, 0), 'number of images'),
        (([], 2.5, 0), 'number of images'),
        (([], None, 0), 'got nothing'),
        (([], [3], 0), 'number of images'),
        (([0, 1, 2], 40, 0), '3 classes with 40 images each are 120 images; .* at most 100'),
        (([], 1, -1), 'seed must be a whole number'),
        (([], 1, math.nan), 'seed must be a whole number'),
        (([], 1, math.inf), 'seed must be a whole number'),
        (([], 1, 1e30), 'seed must be a whole number'),
        (([], 1, 'x' * 999), 'seed .* got x{40}…$'),
    ],
)
def test_what_cannot_be_had_is_said(model, values, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_samples(model, *values, 100)


@pytest.mark.parametrize('truncation', [0, -1, math.nan, None, 'low', True, [1]])
def test_truncations_that_are_none(truncation):
    with pytest.raises(ConfigError, match='truncation must be a number greater than 0'):
        read_look(truncation, None)


def test_looks():
    assert read_look(0.5, 'ema') == Look(0.5, 'ema')
    assert read_look(3, None) == read_look(math.inf, None) == Look(None, None), "the slider's end"
    with pytest.raises(ConfigError, match="weights must be 'ema' or 'orig', got gan"):
        read_look(1, 'gan')


def test_a_model_without_classes_has_none_to_pick(plain_experiment):
    model = Checkpoints(plain_experiment.config, plain_experiment.checkpoint).model()
    with pytest.raises(ConfigError, match='no classes'):
        read_class(model, 0)
    assert read_samples(model, [], 3, 0, 100).labels is None
    assert read_seed(2**53 - 1) == 2**53 - 1
