"""Training steps and sampling, each by the fast side and by the plain one."""

from collections.abc import Callable, Mapping

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import Tensor

from mmsagan.analysis.benchmarks.sides import Setup, build_sides, default_batch_size, switch_fast
from mmsagan.analysis.flops import NETWORKS, build_counted, count_flops, image_shape, training_flops
from mmsagan.analysis.measuring import Action
from mmsagan.analysis.workloads import Workload
from mmsagan.engine.config import accepted_arguments, config_errors
from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.models.gan import _make_inference_copy

WRAPPERS = dict(fp32='OptimWrapper', bf16='BFloat16OptimWrapper')
_OF_PRECISION = ('type', 'dtype', 'loss_scale')


# ---------------------------------------------------------------------------------------------------------------- training


def step_workload(cfg: Config, name: str, precision: str, batch_size: int | None, setup: Setup) -> Workload:
    """One update of D and one of G, on random images and classes.

    The reference: plain layers, contiguous memory, a pass of D for the real images and one for the fake ones, float32,
    PyTorch's optimizer, not fused.

    Args:
        cfg: The experiment; of it are used ``model``, ``optim_wrapper`` and the batch size.
        name: The config's name.
        precision: The fast side's.
        batch_size: Images in an update; None: see :func:`~mmsagan.analysis.benchmarks.sides.default_batch_size`.
        setup: What all measurements have in common.

    Raises:
        ConfigError: The config describes no training of a GAN, or not on this device.
    """
    if precision == 'bf16' and setup.device.type != get_device():
        raise ConfigError(
            f'BFloat16OptimWrapper computes in bfloat16 on the {get_device()} only, where MMEngine would train; to measure it '
            f'on the {setup.device.type}, hide the other device (CUDA_VISIBLE_DEVICES=)'
        )
    sides = build_sides(cfg.model, setup)
    batch_size = batch_size or default_batch_size(cfg, setup.device)
    images = 2 * torch.rand(batch_size, *image_shape(build_counted(cfg.model)), device=setup.device) - 1
    label = torch.randint(max(1, sides.fast.num_classes), (batch_size,), device=setup.device)
    reference = None
    if sides.reference is not None:
        reference = training_step(sides.reference, build_optimizers(sides.reference, cfg, 'fp32', plain=True), images, label)
    return Workload(
        what='step',
        config=name,
        precision=precision,
        fast=training_step(sides.fast, build_optimizers(sides.fast, cfg, precision), images, label),
        images=batch_size,
        flops=training_flops(switch_fast(cfg.model, True), batch_size).step.total,
        reference=reference,
        **setup.allocators(),
    )


def training_step(gan: ConditionalGAN, optimizers: OptimWrapperDict, images: Tensor, label: Tensor) -> Action:
    """Makes the action of one update of each network."""

    def step() -> None:
        gan.train_discriminator(images, label, optimizers['discriminator'])
        gan.train_generator(len(images), optimizers['generator'])

    return step


def build_optimizers(gan: ConditionalGAN, cfg: Config, precision: str, plain: bool = False) -> OptimWrapperDict:
    """The optimizers of a config's training, in a precision other than its own perhaps.

    Args:
        gan: Whose networks they are for.
        cfg: The experiment.
        precision: ``'fp32'`` or ``'bf16'``.
        plain: Whether to take PyTorch's own optimizers, not fused, with the config's settings.

    Raises:
        ConfigError: The config does not say which ones.
    """
    settings = {key: value for key, value in (cfg.get('optim_wrapper') or {}).items() if key not in _OF_PRECISION}
    for network in NETWORKS:
        own = settings.get(network)
        if not isinstance(own, Mapping) or not isinstance(own.get('optimizer'), Mapping):
            raise ConfigError(f'{cfg.filename} has no optim_wrapper.{network}.optimizer; a step cannot be measured without')
        own = {key: value for key, value in own.items() if key not in _OF_PRECISION}
        settings[network] = dict(own, optimizer=_plain(own['optimizer'])) if plain else own
    settings.setdefault('constructor', 'MultiOptimWrapperConstructor')
    # MMEngine's own does not look for NaN and Inf, as ours does.
    kind = 'mmengine.OptimWrapper' if plain and precision == 'fp32' else WRAPPERS[precision]
    with config_errors():
        return build_optim_wrapper(gan, dict(settings, type=kind))


def _plain(optimizer: Mapping) -> dict:
    kind = optimizer.get('type')
    kind = getattr(torch.optim, kind, kind) if isinstance(kind, str) else kind
    can_be_fused = not isinstance(kind, str) and 'fused' in accepted_arguments(kind)[0]
    return dict(optimizer, type=kind, **(dict(fused=False) if can_be_fused else {}))


# ---------------------------------------------------------------------------------------------------------------- sampling


def sample_workload(cfg: Config, name: str, precision: str, batch_size: int | None, setup: Setup) -> Workload:
    """A batch of samples.

    The reference: the plain layers in float32, as a checkpoint is loaded, with sigma computed in every call.

    Args:
        cfg: The experiment; of it are used ``model`` and the batch size.
        name: The config's name.
        precision: The fast side's.
        batch_size: Samples; None: see :func:`~mmsagan.analysis.benchmarks.sides.default_batch_size`.
        setup: What all measurements have in common.

    Raises:
        ConfigError: The config describes no GAN that can be built.
    """
    sides = build_sides(cfg.model, setup)
    batch_size = batch_size or default_batch_size(cfg, setup.device)
    sampler, counted = (fast_sampler(sides.fast, precision) for _ in range(2))
    return Workload(
        what='sample',
        config=name,
        precision=precision,
        fast=lambda: sampler(batch_size),
        images=batch_size,
        flops=count_flops(lambda: counted(batch_size)).total,
        reference=None if sides.reference is None else lambda: sides.reference.sample(num_samples=batch_size),
        **setup.allocators(),
    )


def fast_sampler(gan: ConditionalGAN, precision: str) -> Callable[[int], Tensor]:
    """Makes a function of the number of samples, which does what ``gan.sample`` does within ``gan.inference_copy``.

    Args:
        gan: The GAN; it stays as it is.
        precision: ``'fp32'`` or ``'bf16'``.
    """
    network = _make_inference_copy(gan.get_generator(), amp=precision == 'bf16')

    @torch.no_grad()
    def sample(num_samples: int) -> Tensor:
        with torch.autocast(gan.device.type, dtype=torch.bfloat16, enabled=precision == 'bf16'):
            return network(gan.draw_noise(num_samples), label=gan.draw_label(num_samples))

    return sample
