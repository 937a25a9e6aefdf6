"""Optimizer wrappers: one per network, skipped steps, bfloat16, fused kernels."""

import copy
import math

import pytest
import torch
from mmengine.optim import OptimWrapper as PlainOptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from torch import nn

from mmsagan.engine import optim
from mmsagan.engine.optim import AmpOptimWrapper, BFloat16OptimWrapper, MultiOptimWrapperConstructor, OptimWrapper
from mmsagan.errors import ConfigError

NAN, INF = math.nan, math.inf


def build(kind=OptimWrapper, optimizer=torch.optim.Adam, fused=True, **kwargs):
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    return model, kind(optimizer=optimizer(model.parameters(), lr=0.1, fused=fused), **kwargs)


def snapshot(model, wrapper):
    return copy.deepcopy([list(model.parameters()), [dict(state) for state in wrapper.optimizer.state.values()]])


def same(one, other):
    (weights, states), (other_weights, other_states) = one, other
    return all(map(torch.equal, weights, other_weights)) and all(
        state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)
        for state, other in zip(states, other_states, strict=True)
    )


@pytest.mark.parametrize('kind', [OptimWrapper, BFloat16OptimWrapper])
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1.0)])
@pytest.mark.parametrize('value, factor', [(NAN, 1), (INF, 1), (1, NAN), (1, INF)])
@pytest.mark.parametrize('optimizer, fused', [('AdamW', True), ('Adam', False), ('SGD', True)])
def test_a_step_that_is_not_finite_is_skipped(kind, clip_grad, value, factor, optimizer, fused):
    model, wrapper = build(kind, getattr(torch.optim, optimizer), fused, clip_grad=clip_grad and dict(clip_grad))
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    before = snapshot(model, wrapper)
    assert (wrapper.skipped, wrapper.found_inf) == (0, 0)
    for number in (1, 2):
        output = model(torch.ones(2, 3))
        output.register_hook(lambda gradient: gradient * factor)  # a gradient that the loss does not show
        wrapper.update_params(output.sum() * value)
        assert (wrapper.skipped, wrapper.skipped_in_a_row, wrapper.found_inf) == (number, number, 1)
        assert same(before, snapshot(model, wrapper))
        assert all(parameter.grad is None for parameter in model.parameters())
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    assert (wrapper.skipped, wrapper.skipped_in_a_row, wrapper.found_inf) == (2, 0, 0)
    assert not same(before, snapshot(model, wrapper))


def test_finite_steps_are_those_of_a_plain_wrapper():
    """Also with a gradient whose square is not finite in float32; and the checkpoints are interchangeable."""
    (plain, plain_wrapper), (model, wrapper) = (
        build(kind, clip_grad=dict(max_norm=0.1)) for kind in (PlainOptimWrapper, OptimWrapper)
    )
    for scale in (1, 1e30, 1):
        for network, optimizer in ((plain, plain_wrapper), (model, wrapper)):
            optimizer.update_params(scale * network(torch.ones(2, 3)).square().sum())
    assert wrapper.skipped == 0 and same(snapshot(plain, plain_wrapper), snapshot(model, wrapper))
    plain_wrapper.load_state_dict(wrapper.state_dict())
    wrapper.load_state_dict(plain_wrapper.state_dict())
    assert plain_wrapper.state_dict().keys() == wrapper.state_dict().keys()


@pytest.mark.parametrize('values', [(NAN, 1, 1), (1, 1, NAN), (INF, -INF, 1)])
def test_one_part_of_an_accumulated_step_is_enough(values):
    model, wrapper = build(accumulative_counts=3)
    for _ in range(3):
        wrapper.update_params(model(torch.ones(1, 3)).sum())
    before = snapshot(model, wrapper)
    for value in values:
        wrapper.update_params(model(torch.ones(1, 3)).sum() * 0 + value)
    assert wrapper.skipped == 1 and same(before, snapshot(model, wrapper))
    for _ in range(3):
        assert same(before, snapshot(model, wrapper))
        wrapper.update_params(model(torch.ones(1, 3)).sum())
    assert wrapper.skipped == 1 and not same(before, snapshot(model, wrapper)), 'the next step starts anew'


@pytest.mark.parametrize('fused', [True, False])
def test_float16_lowers_its_scale(monkeypatch, fused):
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', lambda **kwargs: torch.amp.GradScaler('cpu', **kwargs))
    model, wrapper = build(AmpOptimWrapper, fused=fused, loss_scale=dict(init_scale=2.0**10), clip_grad=dict(max_norm=1.0))
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    assert (wrapper.skipped, wrapper.loss_scaler.get_scale()) == (0, 2.0**10)
    before = snapshot(model, wrapper)
    wrapper.update_params(1e38 * model(torch.ones(2, 3)).sum())  # overflows when it is scaled
    wrapper.update_params(model(torch.ones(2, 3)).sum() * 0 + INF)  # would have a finite gradient
    assert wrapper.skipped == 2 and same(before, snapshot(model, wrapper)) and wrapper.loss_scaler.get_scale() == 2.0**8
    wrapper.update_params(model(torch.ones(2, 3)).sum())
    assert wrapper.skipped_in_a_row == 0 and not same(before, snapshot(model, wrapper))
    assert set(wrapper.state_dict()) == {'state', 'param_groups', 'loss_scaler'}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.discriminator, self.other = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(2, 2)


def adam(lr, **kwargs):
    return dict(optimizer=dict(type='Adam', lr=lr, **kwargs))


def test_one_wrapper_per_network():
    """Shared keys are defaults; optimizers are fused unless the config says otherwise, which stays as it is."""
    cfg = dict(
        type='BFloat16OptimWrapper',
        accumulative_counts=4,
        generator=adam(1e-4, betas=(0.0, 0.9)),
        discriminator=dict(adam(4e-4, fused=False), accumulative_counts=2),
        other=dict(optimizer=dict(type='Rprop', lr=1), type='OptimWrapper'),
    )
    model, original = Model(), copy.deepcopy(cfg)
    wrappers = MultiOptimWrapperConstructor(cfg)(model)
    groups = {name: wrapper.optimizer.param_groups[0] for name, wrapper in wrappers.items()}
    assert {name: type(wrapper) for name, wrapper in wrappers.items()} == dict(
        generator=BFloat16OptimWrapper, discriminator=BFloat16OptimWrapper, other=OptimWrapper
    )
    assert [wrapper._accumulative_counts for wrapper in wrappers.values()] == [4, 2, 4]
    assert (groups['generator']['lr'], groups['generator']['betas'], groups['discriminator']['lr']) == (1e-4, (0.0, 0.9), 4e-4)
    assert [group.get('fused') for group in groups.values()] == [True, False, None] and cfg == original
    for name, group in groups.items():
        assert {id(p) for p in group['params']} == {id(p) for p in getattr(model, name).parameters()}
    with pytest.raises(ConfigError, match=r'optim_wrapper\.critic.*generator, discriminator'):
        MultiOptimWrapperConstructor(dict(critic=adam(1)))(model)
    for wrong in (dict(betas=[0.5]), dict(lr=-1.0)):
        with pytest.raises(ConfigError, match=r'optim_wrapper\.generator\.optimizer'):
            MultiOptimWrapperConstructor(dict(generator=dict(optimizer=dict(type='Adam', **wrong))))(model)


@pytest.mark.parametrize('dtype, fast, expected', [('bfloat16', False, True), ('auto', True, True), ('auto', False, False)])
def test_bfloat16(monkeypatch, dtype, fast, expected):
    monkeypatch.setattr(optim, 'has_fast_bfloat16', lambda: fast)
    model, wrapper = build(BFloat16OptimWrapper, dtype=dtype)
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 3))
    assert (out.dtype == torch.bfloat16) == expected
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32
    with pytest.raises(ConfigError, match='dtype'):
        build(BFloat16OptimWrapper, dtype='float16')


LAYOUTS = torch.contiguous_format, torch.channels_last


@pytest.mark.parametrize('saved, resumed', [LAYOUTS, LAYOUTS[::-1]])
def test_fused_optimizers_resume_in_another_memory_layout(saved, resumed):
    """Fused kernels walk through memory: a state in another layout than the weight's would give each element another one's."""

    class Convolutional(nn.Module):
        def __init__(self, layout):
            super().__init__()
            self.generator = nn.Conv2d(4, 6, 3).to(memory_format=layout)

    def step(wrappers, model, number):
        torch.manual_seed(number)
        for parameter in model.generator.parameters():
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
        wrappers['generator'].optimizer.step()

    def build(layout, **kwargs):
        torch.manual_seed(0)
        model = Convolutional(layout)
        return model, MultiOptimWrapperConstructor(dict(generator=adam(0.1, **kwargs)))(model)

    expected, reference = build(torch.contiguous_format, fused=False)
    model, wrappers = build(saved)
    for number in (1, 2):
        step(reference, expected, number), step(wrappers, model, number)
    other, resumed_wrappers = build(resumed)
    other.load_state_dict(model.state_dict())
    resumed_wrappers.load_state_dict(wrappers.state_dict())
    step(reference, expected, 3), step(resumed_wrappers, other, 3)
    torch.testing.assert_close(other.generator.weight, expected.generator.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('saved, built', [(False, True), (True, False)])
def test_a_checkpoint_does_not_choose_the_kernels(saved, built):
    def make(fused):
        model = Model()
        wrapper = MultiOptimWrapperConstructor(dict(generator=adam(0.1, fused=fused)))(model)['generator']
        wrapper.update_params(model.generator(torch.ones(1, 4)).sum())
        return model, wrapper

    state = make(saved)[1].state_dict()
    state['param_groups'][0]['lr'] = 0.3
    model, resumed = make(built)
    with pytest.raises(ValueError, match='number of parameter groups'):
        resumed.load_state_dict({**state, 'param_groups': state['param_groups'] * 2})
    resumed.load_state_dict(state)
    group = resumed.optimizer.param_groups[0]
    assert group['fused'] is built and group['lr'] == 0.3
    resumed.update_params(model.generator(torch.ones(1, 4)).sum())
    assert all(state['step'] == 2 for state in resumed.optimizer.state.values())
