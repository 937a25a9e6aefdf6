"""Skipped updates leave no trace."""

import copy
import math

import pytest
import torch
from mmengine.optim import OptimWrapper as PlainOptimWrapper
from mmengine.optim import OptimWrapperDict
from torch import nn

from mmsagan.engine.finite_steps import OptimWrapper
from mmsagan.models.undo import BufferKeeper
from mmsagan.registry import MODELS

NETWORKS = ('generator', 'discriminator')


def build(gan_config, kind=OptimWrapper, accumulative_counts=1, **kwargs):
    torch.manual_seed(3)
    gan = MODELS.build(gan_config(ema_config=dict(momentum=0.5), **kwargs))
    gan.init_weights()
    wrappers = {
        name: kind(torch.optim.Adam(getattr(gan, name).parameters(), lr=1e-3), accumulative_counts=accumulative_counts)
        for name in NETWORKS
    }
    return gan.train(), OptimWrapperDict(**wrappers)


def batch(size=4):
    images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return dict(inputs=images, labels=torch.arange(size) % 3)


def update(gan, wrappers, network):
    """One update of a network."""
    real = gan.data_preprocessor(batch())
    if network == 'generator':
        return gan.train_generator(4, wrappers['generator'])
    return gan.train_discriminator(real['inputs'], real['labels'], wrappers['discriminator'])


def state_of(gan, wrappers):
    """Every tensor of the model and of the optimizers."""
    state = dict(gan.state_dict())
    for network, wrapper in wrappers.items():
        for index, values in enumerate(wrapper.optimizer.state.values()):
            state |= {f'optimizer.{network}.{index}.{name}': value for name, value in values.items()}
    return copy.deepcopy(state)


def moved(before, after):
    """What of the model differs between two states, by the networks' names."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def parts(names):
    return {name.split('.')[0] for name in names}


def spoil_loss(gan, network):
    loss, name = gan.gan_loss, f'{network}_loss'
    plain = getattr(loss, name)

    def spoilt(*logits):
        value = plain(*logits)
        return tuple(part * math.nan for part in value) if isinstance(value, tuple) else value * math.nan

    setattr(loss, name, spoilt)
    return lambda: delattr(loss, name)


def spoil_gradient(gan, network):
    """A gradient that the loss does not show."""
    parameter = list(getattr(gan, network).parameters())[3]
    return parameter.register_hook(lambda gradient: gradient * math.inf).remove


def spoil_activations(gan, network):
    """What a convolution hands on overflows, as in half precision; it gets into running statistics behind it."""
    layer = next(layer for layer in getattr(gan, network).modules() if isinstance(layer, nn.Conv2d))
    return layer.register_forward_hook(lambda layer, inputs, output: output * math.inf).remove


WAYS = [dict(accumulative_counts=2), *[dict(fast=False)] * 2]


@pytest.mark.parametrize('spoil, options', list(zip((spoil_loss, spoil_gradient, spoil_activations), WAYS)))
@pytest.mark.parametrize('network', NETWORKS)
def test_a_skipped_update_changes_nothing(gan_config, spoil, network, options):
    gan, wrappers = build(gan_config, **options)
    for name in NETWORKS:
        update(gan, wrappers, name)
    before = state_of(gan, wrappers)
    mend = spoil(gan, network)
    for number in (1, 2):
        logs = update(gan, wrappers, network)
        assert wrappers[network].skipped == number and all(value.isfinite() for value in logs.values())
        assert ('loss_gen' in logs or 'loss_disc' in logs) == (spoil is spoil_gradient), 'finite losses are shown'
        assert moved(before, state_of(gan, wrappers)) == set()
    mend()
    logs = update(gan, wrappers, network)
    assert wrappers[network].skipped_in_a_row == 0 and {'loss_gen', 'loss_disc'} & set(logs)
    assert network in parts(moved(before, state_of(gan, wrappers)))


def test_the_spoilt_activations_do_reach_the_running_statistics(gan_config):
    """What would be left without the undoing."""
    gan, _ = build(gan_config)
    spoil_activations(gan, 'generator')
    gan.generator(gan.draw_noise(4), gan.draw_label(4))
    assert any(value.isnan().any() for name, value in gan.generator.named_buffers() if name.endswith('running_mean'))


@pytest.mark.parametrize('options', [{}, dict(generator_steps=2)], ids=['', 'two steps'])
def test_a_skipped_iteration_counts_and_changes_nothing_else(gan_config, options):
    gan, wrappers = build(gan_config, **options)
    gan.train_step(batch(), wrappers)
    before = state_of(gan, wrappers)
    mended = [spoil(gan, name) for name in NETWORKS for spoil in (spoil_gradient, spoil_activations)]
    assert gan.train_step(batch(), wrappers) == {}
    assert [wrappers[name].skipped for name in NETWORKS] == [options.get('generator_steps', 1), 1]
    assert moved(before, state_of(gan, wrappers)) == {'iteration'} and int(gan.iteration) == 2
    for mend in mended:
        mend()
    logs = gan.train_step(batch(), wrappers)
    assert {'loss_gen', 'loss_disc', 'logits_gap'} <= set(logs) and int(gan.iteration) == 3
    assert parts(moved(before, state_of(gan, wrappers))) == {*NETWORKS, 'generator_ema', 'optimizer', 'iteration'}


def test_the_moving_average_takes_only_updates_that_were_made(gan_config):
    gan, wrappers = build(gan_config, generator_steps=2)
    gan.train_step(batch(), wrappers)
    numbers = []
    gan.ema.update = lambda average, generator, iteration, num_updates: numbers.append(num_updates)
    mend = spoil_loss(gan, 'generator')
    gan.train_step(batch(), wrappers)
    mend()
    gan.train_step(batch(), wrappers)
    assert numbers == [5, 6]


def test_plain_wrappers_skip_nothing(gan_config):
    gan, wrappers = build(gan_config, kind=PlainOptimWrapper)
    spoil_loss(gan, 'generator')
    logs = gan.train_step(batch(), wrappers)
    assert logs['loss_gen'].isnan() and logs['loss_disc'].isfinite()
    assert all(parameter.isnan().all() for parameter in gan.generator.parameters())


def test_finite_updates_are_those_of_plain_wrappers(gan_config):
    states = []
    for kind in (PlainOptimWrapper, OptimWrapper):
        gan, wrappers = build(gan_config, kind=kind)
        for _ in range(2):
            logs = gan.train_step(batch(), wrappers)
        states.append(state_of(gan, wrappers))
    assert moved(*states) == set()
    torch.testing.assert_close(logs['logits_gap'], logs['logits_real'] - logs['logits_fake'], rtol=0, atol=0)


def test_keeping_buffers():
    norm = nn.BatchNorm1d(2)
    keeper = BufferKeeper(nn.Sequential(norm, nn.Linear(2, 2)))
    keeper.keep()
    norm(torch.randn(4, 2) * math.nan)
    assert norm.running_mean.isnan().all() and norm.running_var.isnan().all()
    norm.running_mean = norm.running_mean.clone()  # buffers may be exchanged, as by .to()
    keeper.put_back()
    assert norm.running_mean.tolist() == [0, 0] and norm.running_var.tolist() == [1, 1] and norm.num_batches_tracked == 0
    without = BufferKeeper(nn.Linear(1, 1))
    without.keep()
    without.put_back()
