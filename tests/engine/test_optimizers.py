import pytest
import torch
from torch import nn

from mmsagan.engine import optimizers
from mmsagan.engine.finite_steps import OptimWrapper
from mmsagan.engine.optimizers import BFloat16OptimWrapper, MultiOptimWrapperConstructor, has_fast_bfloat16
from mmsagan.errors import ConfigError


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = nn.Linear(4, 4), nn.Linear(4, 2)


def adam(lr):
    return dict(optimizer=dict(type='Adam', lr=lr, betas=(0.0, 0.9)))


def test_one_optimizer_a_network():
    model = Model()
    wrappers = MultiOptimWrapperConstructor(dict(generator=adam(1e-4), discriminator=adam(4e-4)))(model)
    assert set(wrappers.keys()) == {'generator', 'discriminator'}
    for name, lr in (('generator', 1e-4), ('discriminator', 4e-4)):
        group = wrappers[name].optimizer.param_groups[0]
        assert type(wrappers[name]) is OptimWrapper
        assert (group['lr'], group['betas']) == (lr, (0.0, 0.9))
        assert {id(p) for p in group['params']} == {id(p) for p in getattr(model, name).parameters()}


def test_shared_keys_hold_for_all_and_can_be_overridden():
    cfg = dict(
        type='BFloat16OptimWrapper',
        accumulative_counts=4,
        generator=adam(1),
        discriminator=dict(adam(1), accumulative_counts=2),
    )
    wrappers = MultiOptimWrapperConstructor(cfg)(Model())
    assert all(type(wrapper) is BFloat16OptimWrapper for wrapper in wrappers.values())
    assert [wrappers[name]._accumulative_counts for name in ('generator', 'discriminator')] == [4, 2]


def test_unknown_part():
    with pytest.raises(ConfigError, match=r'optim_wrapper\.critic.*its parts are generator, discriminator'):
        MultiOptimWrapperConstructor(dict(critic=adam(1)))(Model())


@pytest.mark.parametrize(
    'dtype, fast, expected',
    [
        ('bfloat16', False, torch.bfloat16),
        ('auto', True, torch.bfloat16),
        ('auto', False, torch.float32),
    ],
)
def test_bfloat16(monkeypatch, dtype, fast, expected):
    monkeypatch.setattr(optimizers, 'has_fast_bfloat16', lambda: fast)
    model = nn.Linear(4, 4)
    wrapper = BFloat16OptimWrapper(dtype=dtype, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 4))
    assert out.dtype == expected
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32


@pytest.mark.parametrize(
    'flags, expected', [(dict(avx512_bf16=True), True), (dict(amx_bf16=True), True), (dict(avx2=True), False)]
)
def test_which_cpus_have_it(monkeypatch, flags, expected):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: flags, raising=False)
    monkeypatch.setattr(optimizers, 'get_device', lambda: 'cpu')
    assert has_fast_bfloat16() == expected


def test_other_types_are_refused():
    with pytest.raises(ConfigError, match='float16'):
        BFloat16OptimWrapper(dtype='float16', optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0))


def test_optimizers_are_fused_where_they_do_not_say_otherwise():
    cfg = dict(
        generator=adam(1),
        discriminator=dict(optimizer=dict(type='Adam', lr=1, fused=False)),
        other=dict(optimizer=dict(type='Rprop', lr=1)),
    )
    model = Model()
    model.other = nn.Linear(2, 2)
    wrappers = MultiOptimWrapperConstructor(cfg)(model)
    fused = {name: wrapper.optimizer.defaults.get('fused') for name, wrapper in wrappers.items()}
    assert fused == {'generator': True, 'discriminator': False, 'other': None}
    assert 'fused' not in cfg['generator']['optimizer'], "the user's config stays as it is"


LAYOUTS = torch.contiguous_format, torch.channels_last


@pytest.mark.parametrize('saved, resumed', [LAYOUTS, LAYOUTS[::-1]])
def test_fused_optimizers_go_on_in_another_memory_layout(saved, resumed):
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
        return model, MultiOptimWrapperConstructor(dict(generator=dict(optimizer=dict(type='Adam', lr=0.1, **kwargs))))(model)

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
        optimizer = dict(type='Adam', lr=0.1, fused=fused)
        wrapper = MultiOptimWrapperConstructor(dict(generator=dict(optimizer=optimizer)))(model)['generator']
        wrapper.update_params(model.generator(torch.ones(1, 4)).sum())
        return model, wrapper

    _, wrapper = make(saved)
    state = wrapper.state_dict()
    state['param_groups'][0]['lr'] = 0.3
    model, resumed = make(built)
    resumed.load_state_dict(state)
    group = resumed.optimizer.param_groups[0]
    assert group['fused'] is built and group['lr'] == 0.3
    resumed.update_params(model.generator(torch.ones(1, 4)).sum())
    assert all(state['step'] == 2 for state in resumed.optimizer.state.values())


def test_another_number_of_groups_is_refused():
    model = Model()
    wrapper = MultiOptimWrapperConstructor(dict(generator=adam(1)))(model)['generator']
    state = wrapper.state_dict()
    state['param_groups'] = state['param_groups'] * 2
    with pytest.raises(ValueError, match='number of parameter groups'):
        wrapper.load_state_dict(state)
