import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmsagan.engine import optimizers
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
