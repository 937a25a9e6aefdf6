import copy

import pytest
import torch
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.models import GeneratorEMA
from mmsagan.models.layers.spectral_norm import spectral_norm


def network():
    return nn.Sequential(spectral_norm(nn.Linear(4, 3)), nn.BatchNorm1d(3))


def run(ema, source, average, steps, first=1):
    """Trains at random and returns the history of the weights."""
    history = []
    for step in range(first, first + steps):
        with torch.no_grad():
            source[0].weight_orig.normal_()
        source(torch.randn(8, 4))
        ema.update(average, source, iteration=step, num_updates=step)
        history.append((source[0].weight_orig.clone(), source[1].running_mean.clone()))
    return history


@pytest.mark.parametrize('momentum', [0.9, 0.1])
def test_weights_and_statistics_are_averaged(momentum):
    source = network()
    average = copy.deepcopy(source)
    history = run(GeneratorEMA(momentum), source, average, 5)
    weight, mean = history[0]
    for new_weight, new_mean in history[1:]:
        weight, mean = 0.9 * weight + 0.1 * new_weight, 0.9 * mean + 0.1 * new_mean
    torch.testing.assert_close(average[0].weight_orig, weight)
    torch.testing.assert_close(average[1].running_mean, mean)


def test_statistics_may_be_copied():
    source = network()
    average = copy.deepcopy(source)
    run(GeneratorEMA(0.9, buffers='copy'), source, average, 3)
    assert torch.equal(average[1].running_mean, source[1].running_mean)
    assert torch.equal(average[1].running_var, source[1].running_var)
    assert not torch.equal(average[0].weight_orig, source[0].weight_orig)


def test_singular_vectors_stay_unit_vectors():
    source = network()
    average = copy.deepcopy(source)
    run(GeneratorEMA(0.9), source, average, 5)
    assert torch.equal(average[0].weight_u, source[0].weight_u)
    assert average[1].num_batches_tracked == source[1].num_batches_tracked == 5


def test_equals_the_source_up_to_start_iter():
    source = network()
    average = copy.deepcopy(source)
    ema = GeneratorEMA(0.9, start_iter=3)
    run(ema, source, average, 3)
    assert torch.equal(average[0].weight_orig, source[0].weight_orig)
    run(ema, source, average, 1, first=4)
    assert not torch.equal(average[0].weight_orig, source[0].weight_orig)


def test_interval():
    source = network()
    average = copy.deepcopy(source)
    ema = GeneratorEMA(0.9, interval=2)
    kept = run(ema, source, average, 1)[0][0]
    run(ema, source, average, 1, first=3)
    assert torch.equal(average[0].weight_orig, kept)
    run(ema, source, average, 1, first=4)
    assert not torch.equal(average[0].weight_orig, kept)


def test_arguments_out_of_range():
    for arguments, key in ((dict(momentum=1.5), 'momentum'), (dict(buffers='none'), 'buffers')):
        with pytest.raises(ConfigError, match=key):
            GeneratorEMA(**arguments)


def test_statistics_belong_to_the_averaged_weights():
    """While the weights move, the average's running mean is that of its own outputs, and the network's is not."""
    source = nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3))
    average = copy.deepcopy(source)
    ema, direction = GeneratorEMA(0.99), torch.randn(3, 4)
    for step in range(1, 501):
        with torch.no_grad():
            source[0].weight += 0.01 * direction
        source(1 + torch.randn(256, 4))
        ema.update(average, source, iteration=step, num_updates=step)
    expected = average[0].weight.sum(1)
    error = (average[1].running_mean - expected).abs().max()
    assert error < 0.2 * (source[1].running_mean - expected).abs().max()
