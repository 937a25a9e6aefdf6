"""The two sides of steps and of sampling: what each of them really computes."""

import copy

import pytest
import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch.utils._python_dispatch import TorchDispatchMode

from mmsagan.analysis.benchmarks import models
from mmsagan.analysis.benchmarks.models import build_optimizers, fast_sampler, sample_workload, step_workload
from mmsagan.analysis.benchmarks.sides import Setup, build_sides, default_batch_size, switch_fast
from mmsagan.analysis.flops import training_flops
from mmsagan.engine.config import load_config
from mmsagan.engine.optim import BFloat16OptimWrapper
from mmsagan.errors import ConfigError
from mmsagan.utils.memory import keep_freed_memory, return_freed_memory

aten = torch.ops.aten
CPU = Setup(torch.device('cpu'))
ADAM = dict(type='Adam', lr=2e-4, betas=(0.5, 0.999))


@pytest.fixture
def config(tmp_path, gan_config):
    """Makes the config of a training: config(**sections)."""

    def make(**sections):
        sections = {
            'model': gan_config(),
            'train_dataloader': dict(batch_size=6),
            'optim_wrapper': dict(
                constructor='MultiOptimWrapperConstructor', generator=dict(optimizer=ADAM), discriminator=dict(optimizer=ADAM)
            ),
            **sections,
        }
        path = tmp_path / 'config.py'
        path.write_text(''.join(f'{key} = {value!r}\n' for key, value in sections.items() if value is not None))
        return load_config(path)

    return make


class Recorder(TorchDispatchMode):
    """Notes the operations that are done, and of convolutions the precision and the order in memory."""

    def __init__(self):
        super().__init__()
        self.names, self.dtypes, self.batches = set(), set(), []
        self.contiguous = True

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket._qualified_op_name)
        if operation.overloadpacket is aten.convolution:
            features, weight = args[:2]
            self.dtypes |= {features.dtype, weight.dtype}
            self.batches.append((len(features), tuple(weight.shape)))
            self.contiguous &= features.is_contiguous() and weight.is_contiguous()
        return operation(*args, **(kwargs or {}))


def recorded(action) -> Recorder:
    with Recorder() as recorder:
        action()
    return recorder


# ------------------------------------------------------------------------------------------------------------------- sides


def test_both_sides_have_the_same_weights(gan_config):
    sides = build_sides(gan_config(ema_config=dict(momentum=0.9)), CPU)
    fast, reference = sides.fast.state_dict(), sides.reference.state_dict()
    assert list(fast) == list(reference)
    assert all(torch.equal(fast[key], reference[key]) for key in fast)
    assert sides.fast.training and sides.reference.training
    assert build_sides(gan_config(), Setup(torch.device('cpu'), against_reference=False)).reference is None


@pytest.mark.parametrize('fast', [True, False])
def test_the_switch_decides_alone(gan_config, fast):
    """Whatever the config says, which stays as it was."""
    model = gan_config(fast=not fast, compile_cfg={})
    before = copy.deepcopy(model)
    switched = switch_fast(model, fast)
    assert switched['fast'] is fast and ('compile_cfg' in switched) is fast
    assert switched['generator']['base_channels'] == 8 and model == before


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(generator=None), r'has no generator=dict\(\.\.\.\)'),
        (dict(num_classes='three'), 'num_classes must be a whole number'),
        (dict(type='DataPreprocessor', num_classes=None), 'cannot be built'),
    ],
)
def test_models_that_cannot_be_measured(gan_config, change, message):
    with pytest.raises(ConfigError, match=message):
        build_sides({**gan_config(), **change}, CPU)


@pytest.mark.parametrize('size, pixels, on_cpu, on_gpu', [(256, 32, 64, 256), (48, 32, 48, 48), (64, 128, 16, 64)])
def test_default_batch_size(config, size, pixels, on_cpu, on_gpu):
    cfg = config(train_dataloader=dict(batch_size=size))
    cfg.model.generator.update(output_scale=pixels)
    cfg.model.discriminator.update(input_scale=pixels)
    assert default_batch_size(cfg, torch.device('cpu')) == on_cpu
    assert default_batch_size(cfg, torch.device('cuda')) == on_gpu
    with pytest.raises(ConfigError, match=r'config\.py has no train_dataloader\.batch_size; give --batch-size'):
        default_batch_size(config(train_dataloader=None), torch.device('cpu'))


def test_allocators():
    assert Setup(torch.device('cpu')).allocators() == dict(before_fast=keep_freed_memory, before_reference=return_freed_memory)
    kept = Setup(torch.device('cpu'), reference_allocator='kept').allocators()
    assert kept['before_reference'] is kept['before_fast'] is keep_freed_memory
    assert Setup(torch.device('cuda')).allocators() == {}, 'it is about the memory of the CPU'


# ------------------------------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_step_on_both_sides(config, precision):
    cfg = config()
    workload = step_workload(cfg, 'small', precision, None, CPU)
    assert (workload.what, workload.config, workload.precision, workload.images) == ('step', 'small', precision, 6)
    assert workload.flops == training_flops(switch_fast(cfg.model, True), 6).step.total
    assert workload.before_fast is keep_freed_memory and workload.before_reference is return_freed_memory

    reference, fast = recorded(workload.reference), recorded(workload.fast)
    assert reference.dtypes == {torch.float32} and reference.contiguous
    assert not any('fused_adam' in name for name in reference.names)
    assert max(size for size, _ in reference.batches) == 6, 'D judges real and fake images one after the other'
    assert (torch.bfloat16 in fast.dtypes) == (precision == 'bf16') and not fast.contiguous
    assert max(size for size, _ in fast.batches) == 12, 'D judges real and fake images together'
    assert 'aten::convolution_backward' in reference.names & fast.names


def test_a_step_updates_both_networks(config):
    cfg = config()
    gan = build_sides(cfg.model, CPU).fast
    before = copy.deepcopy(gan.state_dict())
    images = torch.rand(4, 3, 32, 32)
    step = models.training_step(gan, build_optimizers(gan, cfg, 'fp32'), images, torch.tensor([0, 1, 2, 0]))
    step()
    changed = {key.split('.')[0] for key, value in gan.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {'generator', 'discriminator'}


def test_a_step_of_the_fast_side_alone(config):
    workload = step_workload(config(), 'small', 'fp32', 2, Setup(torch.device('cpu'), against_reference=False))
    assert workload.reference is None and workload.images == 2
    workload.fast()


def test_optimizers(config):
    """Those of the config, in the precision that is asked for, whatever the config's own is."""
    own = dict(
        type='AmpOptimWrapper',
        loss_scale='dynamic',
        clip_grad=dict(max_norm=3),
        generator=dict(optimizer=dict(ADAM, fused=True)),
        discriminator=dict(type='AmpOptimWrapper', dtype='float16', optimizer=dict(ADAM, lr=4e-4)),
    )
    cfg = config(optim_wrapper=own)
    sides = build_sides(cfg.model, CPU)
    mixed = build_optimizers(sides.fast, cfg, 'bf16')
    plain = build_optimizers(sides.reference, cfg, 'fp32', plain=True)
    for network, rate in (('generator', 2e-4), ('discriminator', 4e-4)):
        assert type(mixed[network]) is BFloat16OptimWrapper and type(plain[network]) is OptimWrapper
        for wrapper in (mixed[network], plain[network]):
            assert wrapper.clip_grad_kwargs == dict(max_norm=3)
            assert wrapper.optimizer.defaults['lr'] == rate and wrapper.optimizer.defaults['betas'] == (0.5, 0.999)
        assert type(plain[network].optimizer) is torch.optim.Adam and plain[network].optimizer.defaults['fused'] is False
    assert mixed['generator'].optimizer.defaults['fused'] is True
    assert plain['generator'].optimizer.param_groups[0]['params'][0] is next(sides.reference.generator.parameters())


def test_an_optimizer_that_is_never_fused(config):
    settings = dict(optimizer=dict(type='RMSprop', lr=1e-3))
    cfg = config(optim_wrapper=dict(generator=settings, discriminator=settings))
    plain = build_optimizers(build_sides(cfg.model, CPU).fast, cfg, 'fp32', plain=True)
    assert type(plain['generator'].optimizer) is torch.optim.RMSprop


@pytest.mark.parametrize('wrapper', [None, dict(generator=dict(optimizer=ADAM))])
def test_a_config_without_optimizers(config, wrapper):
    with pytest.raises(ConfigError, match=r'has no optim_wrapper\.\w+\.optimizer'):
        step_workload(config(optim_wrapper=wrapper), 'small', 'fp32', 2, CPU)


def test_bfloat16_where_the_optimizer_wrapper_would_not_use_it(config, monkeypatch):
    assert get_device() == 'cpu' or torch.cuda.is_available()
    monkeypatch.setattr(models, 'get_device', lambda: 'cuda')
    with pytest.raises(ConfigError, match='on the cuda only.*CUDA_VISIBLE_DEVICES'):
        step_workload(config(), 'small', 'bf16', 2, CPU)
    step_workload(config(), 'small', 'fp32', 2, CPU)


# ---------------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_sampling_on_both_sides(config, precision):
    workload = sample_workload(config(), 'small', precision, 5, CPU)
    assert (workload.what, workload.precision, workload.images) == ('sample', precision, 5)
    reference, fast = recorded(workload.reference), recorded(workload.fast)
    assert reference.dtypes == {torch.float32} and reference.contiguous
    assert (torch.bfloat16 in fast.dtypes) == (precision == 'bf16')
    # Products of a weight with a vector are what spectral norms are made of.
    assert 'aten::mv' in reference.names and 'aten::mv' not in fast.names
    assert workload.flops > 0

    images = {}
    for side in ('fast', 'reference'):
        torch.manual_seed(0)
        images[side] = getattr(workload, side)()
    assert images['fast'].shape == (5, 3, 32, 32)
    torch.testing.assert_close(images['fast'].float(), images['reference'], rtol=0, atol=1e-4 if precision == 'fp32' else 0.1)
    assert images['fast'].std() > 0.01


def test_the_sampler_leaves_the_model_alone(gan_config):
    gan = build_sides(gan_config(ema_config=dict(momentum=0.9)), CPU).fast
    keys = list(gan.state_dict())
    with torch.no_grad():
        for parameter in gan.generator_ema.parameters():
            parameter.mul_(2)
    torch.manual_seed(0)
    expected = gan.sample(num_samples=2)
    sampler = fast_sampler(gan, 'fp32')
    torch.manual_seed(0)
    torch.testing.assert_close(sampler(2), expected, rtol=0, atol=1e-4)
    assert list(gan.state_dict()) == keys and gan.training
