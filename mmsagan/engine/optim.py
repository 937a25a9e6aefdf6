"""Optimizer wrappers: one per network, in any precision, that skip steps with NaN or Inf."""

import math
from collections.abc import Mapping
from contextlib import contextmanager

import torch
from mmengine import optim
from mmengine.device import get_device
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Adam, AdamW

from mmsagan.engine.config import config_errors
from mmsagan.errors import ConfigError
from mmsagan.models.gan import unwrap
from mmsagan.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

# Arguments of PyTorch's optimizers that select a kernel and do not change the result.
_KERNEL_ARGUMENTS = ('fused', 'foreach', 'capturable')
# MMEngine adds ``_scope_`` to inherited dicts with a ``type``.
_SHARED_KEYS = ('type', 'dtype', 'loss_scale', 'accumulative_counts', 'clip_grad', '_scope_')


class SkipNonFinite:
    """Mixin for MMEngine's optimizer wrappers that skips a step if its loss or its gradient contains NaN or Inf.

    A skipped step leaves the weights and the optimizer's state unchanged. With gradient accumulation, one such part is enough.
    In distributed training all processes skip, because the NaN of one reaches the gradients of all.

    Nothing waits for the device: the fused Adam and AdamW skip by ``found_inf``, as with PyTorch's ``GradScaler``. With other
    optimizers the check synchronizes once a step. Reading the counts synchronizes as well.
    """

    found_inf: Tensor | None = None  # of the last step, 1 or 0, on the device
    grad_norm: Tensor | None = None  # of the last step, if it is clipped by its norm
    _skipped = _skipped_in_a_row = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._flags: list[Tensor] = []  # of the steps that are not counted yet

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Computes the gradient of a loss, which is NaN if the loss is not finite."""
        super().backward(loss, gradient=loss.detach() * 0 + 1, **kwargs)

    def step(self, **kwargs) -> None:
        """Updates the weights, or skips the update."""
        self._find_inf()
        if isinstance(self.optimizer, (Adam, AdamW)) and self.optimizer.defaults['fused']:
            self.optimizer.found_inf = self.found_inf
            super().step(**kwargs)
            del self.optimizer.found_inf
        elif not self.found_inf:
            super().step(**kwargs)

    def _find_inf(self) -> None:
        gradients = [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        # The maximum norm, unlike the others, does not overflow as long as no entry does.
        self.found_inf = get_total_norm(gradients, norm_type=math.inf).isfinite().logical_not().float()
        self._flags.append(self.found_inf)
        if len(self._flags) >= 1000:  # nobody reads the counts
            self._count()

    def _count(self) -> None:
        for flag in torch.stack(self._flags).tolist() if self._flags else ():
            self._skipped += int(flag)
            self._skipped_in_a_row = self._skipped_in_a_row + 1 if flag else 0
        self._flags.clear()

    @property
    def skipped(self) -> int:
        """Number of steps skipped since the wrapper was built."""
        self._count()
        return self._skipped

    @property
    def skipped_in_a_row(self) -> int:
        """Number of steps skipped since the last one that was taken."""
        self._count()
        return self._skipped_in_a_row

    def _clip_grad(self) -> None:
        """Clips the gradients; keeps their norm as ``grad_norm`` on the device, where MMEngine logs it at once."""
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if parameters:
            self.grad_norm = self.clip_func(parameters, **self.clip_grad_kwargs)


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(SkipNonFinite, optim.OptimWrapper):
    """MMEngine's wrapper with :class:`SkipNonFinite`; arguments and checkpoints are the same."""


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(SkipNonFinite, optim.AmpOptimWrapper):
    """MMEngine's float16 training with :class:`SkipNonFinite`.

    A dynamic loss scaler skips a few steps at the beginning, and one now and then; these are counted too.
    """

    def step(self, **kwargs) -> None:
        """Updates the weights, or skips the update and lowers the loss scale, both done by PyTorch's ``GradScaler``."""
        self._find_inf()
        optim.AmpOptimWrapper.step(self, **kwargs)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Trains under bfloat16 autocast, on CPUs and GPUs; weights, optimizer state and losses stay in float32.

    bfloat16 has the range of float32, so no loss scaling is needed. For float16 on GPUs use :class:`AmpOptimWrapper`. The
    ``dtype`` ``'auto'`` selects float32 on CPUs without bfloat16 instructions.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs):
        super().__init__(**kwargs)
        if dtype not in ('bfloat16', 'auto'):
            raise ConfigError(f"BFloat16OptimWrapper: dtype must be 'bfloat16' or 'auto', got {dtype!r}")
        self.enabled = dtype == 'bfloat16' or has_fast_bfloat16()

    @contextmanager
    def optim_context(self, model: nn.Module):
        with super().optim_context(model), torch.autocast(get_device(), dtype=torch.bfloat16, enabled=self.enabled):
            yield


def has_fast_bfloat16() -> bool:
    """Whether MMEngine's training device computes faster in bfloat16 than in float32."""
    if get_device() == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if get_device() != 'cpu':
        return False
    try:
        flags = torch.cpu.get_capabilities()
    except AttributeError:  # torch < 2.11
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return bool(flags.get('avx512_bf16') or flags.get('amx_bf16') or flags.get('bf16'))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MultiOptimWrapperConstructor:
    """Builds one optimizer wrapper for each named child of a model.

    Adam, AdamW and SGD use PyTorch's fused kernels unless the config sets ``fused`` or ``foreach``.

    Args:
        optim_wrapper_cfg: Wrapper config of each child, as in ``dict(generator=dict(optimizer=dict(type='Adam', lr=1e-4)))``.
            The keys ``type``, ``dtype``, ``loss_scale``, ``accumulative_counts`` and ``clip_grad`` at the top level are
            defaults of all children.
        paramwise_cfg: MMEngine's argument, which is ignored; set it in the config of a child.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.shared = {key: optim_wrapper_cfg[key] for key in _SHARED_KEYS if key in optim_wrapper_cfg}
        self.children = {key: cfg for key, cfg in optim_wrapper_cfg.items() if key not in _SHARED_KEYS}

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        model = unwrap(model)
        wrappers = {}
        for name, cfg in self.children.items():
            network = getattr(model, name, None)
            if not isinstance(network, nn.Module):
                children = ', '.join(child for child, _ in model.named_children())
                raise ConfigError(f'optim_wrapper.{name}: {type(model).__name__} has no such network; it has {children}')
            cfg = dict(self.shared, **cfg)
            optimizer = cfg.get('optimizer')
            can_be_fused = isinstance(optimizer, Mapping) and optimizer.get('type') in ('Adam', 'AdamW', 'SGD')
            if can_be_fused and get_device() in ('cpu', 'cuda') and not {'fused', 'foreach', 'differentiable'} & set(optimizer):
                cfg['optimizer'] = dict(optimizer, fused=True)
            with config_errors(f'optim_wrapper.{name}.optimizer={optimizer}'):
                wrappers[name] = build_optim_wrapper(network, cfg)
            wrappers[name].optimizer.register_load_state_dict_pre_hook(_keep_kernel_arguments)
            wrappers[name].optimizer.register_load_state_dict_post_hook(_match_memory_format)
        return OptimWrapperDict(**wrappers)


def _keep_kernel_arguments(optimizer: torch.optim.Optimizer, state_dict: dict) -> dict:
    """Replaces the kernels that a checkpoint was written with by those that the config selects."""
    groups = [dict(saved) for saved in state_dict['param_groups']]
    for saved, own in zip(groups, optimizer.param_groups):  # PyTorch raises an error if there are not as many
        saved.update({key: own[key] for key in _KERNEL_ARGUMENTS if key in own})
    return {**state_dict, 'param_groups': groups}


def _match_memory_format(optimizer: torch.optim.Optimizer) -> None:
    """Lays out the optimizer's state in memory like the parameters, which fused kernels assume without checking.

    A checkpoint keeps the layout that it was saved in: channels-last with the model's ``fast=True``, contiguous otherwise.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
