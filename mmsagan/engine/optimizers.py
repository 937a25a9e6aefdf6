"""One optimizer a network, and mixed precision on any device."""

from collections.abc import Mapping
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import Tensor, nn

from mmsagan.engine.finite_steps import OptimWrapper
from mmsagan.errors import ConfigError
from mmsagan.models.gan import unwrap
from mmsagan.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

# Settings of PyTorch's optimizers that change how they compute and not what.
_KERNEL_SETTINGS = ('fused', 'foreach', 'capturable')
# MMEngine notes in ``_scope_`` which package's config a config has inherited ``type`` from.
_SHARED_KEYS = ('type', 'dtype', 'loss_scale', 'accumulative_counts', 'clip_grad', '_scope_')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Builds one optimizer wrapper for each named child of a model.

    Args:
        optim_wrapper_cfg: Child's name -> config of its wrapper, as
            ``dict(generator=dict(optimizer=dict(type='Adam', lr=1e-4)), discriminator=dict(…))``. The keys ``type``, ``dtype``,
            ``loss_scale``, ``accumulative_counts`` and ``clip_grad`` at the top hold for every child that does not set them.
        paramwise_cfg: See ``mmengine.optim.DefaultOptimWrapperConstructor``; None for none.

    Raises:
        ConfigError: A key is not the name of a child.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.shared = {key: optim_wrapper_cfg[key] for key in _SHARED_KEYS if key in optim_wrapper_cfg}
        self.children = {key: cfg for key, cfg in optim_wrapper_cfg.items() if key not in _SHARED_KEYS}
        self.paramwise_cfg = paramwise_cfg

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        model = unwrap(model)
        unknown = [name for name in self.children if not isinstance(getattr(model, name, None), nn.Module)]
        if unknown:
            raise ConfigError(
                f'optim_wrapper.{unknown[0]}: the model {type(model).__name__} has no such part; its parts are '
                f'{", ".join(name for name, _ in model.named_children())}'
            )
        wrappers = {}
        for name, cfg in self.children.items():
            cfg = with_fused_optimizer(dict(self.shared, **cfg))
            if self.paramwise_cfg is not None:
                cfg.setdefault('paramwise_cfg', self.paramwise_cfg)
            wrappers[name] = build_optim_wrapper(getattr(model, name), cfg)
            wrappers[name].optimizer.register_load_state_dict_pre_hook(keep_kernels)
            wrappers[name].optimizer.register_load_state_dict_post_hook(lay_out_like_parameters)
        return OptimWrapperDict(**wrappers)


def with_fused_optimizer(cfg: dict) -> dict:
    """A wrapper's config with PyTorch's fused kernel, which computes the same in one pass, if it does not say otherwise."""
    optimizer = cfg.get('optimizer')
    if not isinstance(optimizer, Mapping) or optimizer.get('type') not in ('Adam', 'AdamW', 'SGD'):
        return cfg
    if get_device() not in ('cpu', 'cuda') or {'fused', 'foreach', 'differentiable'} & set(optimizer):
        return cfg
    return dict(cfg, optimizer=dict(optimizer, fused=True))


def keep_kernels(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    """Has an optimizer that goes on from a checkpoint use the kernels that it was built with, not those of the checkpoint.

    Returns:
        The state with the settings that say so replaced.
    """
    groups = [
        {**saved, **{key: own[key] for key in _KERNEL_SETTINGS if key in own}}
        for saved, own in zip(state['param_groups'], optimizer.param_groups)
    ]
    missing = state['param_groups'][len(groups) :]  # another number of groups, which PyTorch refuses
    return {**state, 'param_groups': groups + missing}


def lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Brings the optimizer's state into the memory layout of the parameters, as the fused kernels silently take for granted.

    A checkpoint keeps the layout that the state was saved in: channels-last or contiguous, by the model's ``fast``.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Trains under bfloat16 autocast, on CPUs and GPUs alike; weights, optimizer and losses stay float32.

    bfloat16 has float32's range, so no loss scaling is needed. For float16 on a GPU there is ``AmpOptimWrapper``.

    Args:
        dtype: ``'bfloat16'``; ``'auto'`` takes float32 on a CPU without bfloat16 instructions, where emulating it is slower.
        **kwargs: See :class:`~mmsagan.engine.finite_steps.OptimWrapper`.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs):
        super().__init__(**kwargs)
        if dtype not in ('bfloat16', 'auto'):
            raise ConfigError(f"BFloat16OptimWrapper: dtype must be 'bfloat16' or 'auto', got {dtype!r}")
        self.enabled = dtype == 'bfloat16' or has_fast_bfloat16()

    @contextmanager
    def optim_context(self, model: nn.Module):
        with super().optim_context(model):
            with torch.autocast(get_device(), dtype=torch.bfloat16, enabled=self.enabled):
                yield


def has_fast_bfloat16() -> bool:
    """Whether the device that MMEngine trains on computes in bfloat16 faster than in float32."""
    if get_device() == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if get_device() != 'cpu':
        return False
    try:
        flags = torch.cpu.get_capabilities()
    except AttributeError:  # torch < 2.11
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return bool(flags.get('avx512_bf16') or flags.get('amx_bf16') or flags.get('bf16'))
