"""Steps that are not finite, one wrapper at a time."""

import copy
import math

import pytest
import torch
from mmengine.optim import OptimWrapper as PlainOptimWrapper
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmsagan.engine import finite_steps
from mmsagan.engine.finite_steps import AmpOptimWrapper, OptimWrapper
from mmsagan.engine.optimizers import BFloat16OptimWrapper

NAN, INF = math.nan, math.inf


def build(kind=OptimWrapper, **kwargs):
    model = nn.Linear(3, 1)
    return model, kind(optimizer=torch.optim.Adam(model.parameters(), lr=0.1), **kwargs)


def snapshot(model, wrapper):
    return copy.deepcopy([list(model.parameters()), [dict(state) for state in wrapper.optimizer.state.values()]])


def same(one, other):
    (weights, states), (other_weights, other_states) = one, other
    return all(map(torch.equal, weights, other_weights)) and all(
        state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)
        for state, other in zip(states, other_states, strict=True)
    )


@pytest.fixture
def amp(monkeypatch):
    """float16's wrapper, with a loss scaler of the CPU's."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', lambda **kwargs: torch.amp.GradScaler('cpu', **kwargs))
    return AmpOptimWrapper


@pytest.mark.parametrize('kind', [OptimWrapper, BFloat16OptimWrapper])
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1.0), dict(type='value', clip_value=1.0)])
@pytest.mark.parametrize(
    'value, factor, cause', [(NAN, 1, 'loss'), (INF, 1, 'loss'), (1, NAN, 'gradient'), (1, INF, 'gradient')]
)
def test_what_is_not_finite_is_skipped(kind, clip_grad, value, factor, cause):
    model, wrapper = build(kind, clip_grad=clip_grad and dict(clip_grad))
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    before = snapshot(model, wrapper)
    assert (wrapper.skipped, wrapper.skip_cause, wrapper.largest_gradient) == (0, None, 2.0)
    for number in (1, 2):
        output = model(torch.ones(2, 3))
        output.register_hook(lambda gradient: gradient * factor)  # a gradient that the loss does not show
        wrapper.update_params(output.sum() * value)
        assert (wrapper.skipped, wrapper.skipped_in_a_row, wrapper.skip_cause) == (number, number, cause)
        assert same(before, snapshot(model, wrapper))
        assert all(parameter.grad is None for parameter in model.parameters())
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    assert (wrapper.skipped, wrapper.skipped_in_a_row, wrapper.skip_cause) == (2, 0, None)
    assert not same(before, snapshot(model, wrapper))


def test_a_large_gradient_is_finite():
    """Its square is not, in float32."""
    model, wrapper = build()
    wrapper.update_params(1e30 * model(torch.ones(1, 3)).sum())
    assert wrapper.skipped == 0 and wrapper.largest_gradient == pytest.approx(1e30)


def test_no_more_is_computed_than_a_plain_wrapper_does():
    torch.manual_seed(1)
    plain, plain_wrapper = build(PlainOptimWrapper, clip_grad=dict(max_norm=0.1))
    torch.manual_seed(1)
    model, wrapper = build(clip_grad=dict(max_norm=0.1))
    for _ in range(3):
        for network, optimizer in ((plain, plain_wrapper), (model, wrapper)):
            optimizer.update_params(network(torch.ones(2, 3)).square().sum())
    assert same(snapshot(plain, plain_wrapper), snapshot(model, wrapper))


@pytest.mark.parametrize('wrong_part', [0, 1, 2])
def test_one_part_of_an_accumulated_update_is_enough(wrong_part):
    model, wrapper = build(accumulative_counts=3)
    before = snapshot(model, wrapper)
    for part in range(3):
        wrapper.update_params(model(torch.ones(1, 3)).sum() * (NAN if part == wrong_part else 1))
    assert wrapper.skipped == 1 and wrapper.skip_cause == 'loss' and same(before, snapshot(model, wrapper))
    for _ in range(3):
        assert same(before, snapshot(model, wrapper))
        wrapper.update_params(model(torch.ones(1, 3)).sum())
    assert wrapper.skipped == 1 and not same(before, snapshot(model, wrapper)), 'the next update begins anew'


def test_infinities_of_both_signs_do_not_cancel():
    model, wrapper = build(accumulative_counts=2)
    for value in (INF, -INF):
        wrapper.update_params(model(torch.zeros(1, 3)).sum() * 0 + value)
    assert wrapper.skip_cause == 'loss'


def test_float16_lowers_its_scale_and_counts(amp):
    model, wrapper = build(amp, loss_scale=dict(init_scale=2.0**10), clip_grad=dict(max_norm=1.0))
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    assert (wrapper.skipped, wrapper.loss_scaler.get_scale()) == (0, 2.0**10)
    before = snapshot(model, wrapper)
    wrapper.update_params(1e38 * model(torch.ones(2, 3)).sum())  # overflows when it is scaled
    assert (wrapper.skipped, wrapper.skip_cause) == (1, 'gradient')
    wrapper.update_params(model(torch.ones(2, 3)).sum() * 0 + INF)  # of which the gradient does not know
    assert (wrapper.skipped, wrapper.skip_cause) == (2, 'loss')
    assert same(before, snapshot(model, wrapper)) and wrapper.loss_scaler.get_scale() == 2.0**9
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    assert wrapper.skipped_in_a_row == 0 and not same(before, snapshot(model, wrapper))
    assert set(wrapper.state_dict()) == {'state', 'param_groups', 'loss_scaler'}


def test_all_processes_skip_if_one_has_to(monkeypatch):
    """The others' flags are stood in for; tests/distributed has two real processes."""
    seen = []

    def all_reduce(flags, op):
        seen.append((flags.tolist(), op))
        flags[1] = 1.0

    monkeypatch.setattr(finite_steps, 'is_distributed', lambda: True)
    monkeypatch.setattr(finite_steps, 'all_reduce', all_reduce)
    model, wrapper = build()
    before = snapshot(model, wrapper)
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    assert seen == [([0.0, 0.0], 'max')]
    assert wrapper.skip_cause == 'gradient' and same(before, snapshot(model, wrapper))


def test_configs_get_it_without_asking():
    optimizer = dict(type='SGD', lr=0.1)
    with DefaultScope.overwrite_default_scope('mmsagan'):
        kinds = [
            type(build_optim_wrapper(nn.Linear(1, 1), dict(optimizer=optimizer, **kind)))
            for kind in ({}, dict(type='OptimWrapper'), dict(type='mmengine.OptimWrapper'))
        ]
    assert kinds == [OptimWrapper, OptimWrapper, PlainOptimWrapper]


def test_checkpoints_are_those_of_a_plain_wrapper():
    model, wrapper = build()
    wrapper.update_params(model(torch.ones(1, 3)).sum() * NAN)
    wrapper.update_params(model(torch.ones(1, 3)).sum())
    _, plain = build(PlainOptimWrapper)
    plain.load_state_dict(wrapper.state_dict())
    _, other = build()
    other.load_state_dict(plain.state_dict())
    assert plain.state_dict().keys() == wrapper.state_dict().keys() and other.skipped == 0
