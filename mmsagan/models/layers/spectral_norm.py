"""Spectral normalization with the state-dict layout of the published checkpoints."""

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar('Layer', bound=nn.Module)


@dataclass(eq=False)
class SpectralNorm:
    """Forward pre-hook that divides a layer's weight by an estimate of its largest singular value sigma.

    The layer's parameter becomes ``weight_orig``; the buffers ``weight_u`` (out,) and ``weight_v`` (in * kernel,) hold the
    left and right singular vectors. Each forward pass in training mode runs one power iteration; in evaluation mode
    sigma = u . (W v) is computed from the stored vectors. Source: Miyato et al. 2018, algorithm 1.

    Layout and result are those of ``torch.nn.utils.spectral_norm``. Here, the power iteration stays in float32 under autocast,
    channels-last weights are read without a copy, the backward pass reads the weight fewer times, and no autograd graph remains
    on the layer, so that it can be deep-copied.

    Args:
        eps: Lower bound of the norms that u and v are divided by.
    """

    eps: float = 1e-12

    def __call__(self, module: nn.Module, inputs) -> None:
        weight, _ = _in_memory_order(module)
        device_type = weight.device.type
        # Autocast would round the weight of a convolution in a pass of its own. It does not round embeddings.
        rounds = torch.is_autocast_enabled(device_type) and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        dtype = torch.get_autocast_dtype(device_type) if rounds else weight.dtype
        with torch.autocast(device_type=device_type, enabled=False):
            if module.training:
                u, v, singular_value = self.power_iteration(module)
            else:
                u, v, singular_value = module.weight_u.clone(), _in_memory_order(module)[1].flatten().clone(), sigma(module)
            normalized = _NormalizedWeight.apply(weight, u, v, singular_value, dtype)
        module.weight = normalized if weight is module.weight_orig else normalized.permute(0, 3, 1, 2)

    @torch.no_grad()
    def power_iteration(self, module: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Moves the layer's u and v one step towards its leading singular vectors, in place.

        Returns copies of u and v, the latter in the order of the weight's memory, and sigma.
        """
        weight, weight_v = _in_memory_order(module)
        matrix = weight.flatten(1)
        v = F.normalize(torch.mv(matrix.t(), module.weight_u), dim=0, eps=self.eps)
        image = torch.mv(matrix, v)
        u = F.normalize(image, dim=0, eps=self.eps)
        module.weight_u.copy_(u)
        weight_v.copy_(v.view(weight_v.shape))
        return u, v, torch.dot(u, image)


class _NormalizedWeight(torch.autograd.Function):
    """weight / sigma in a given dtype; the gradient of sigma with respect to the weight is u v^T."""

    @staticmethod
    def forward(ctx, weight: Tensor, u: Tensor, v: Tensor, singular_value: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(weight, u, v, singular_value)
        return (weight / singular_value).to(dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        weight, u, v, singular_value = ctx.saved_tensors
        matrix = weight.flatten(1)
        if torch.is_grad_enabled():  # for double backward, sigma has to depend on the weight
            singular_value = torch.dot(u, torch.mv(matrix, v))
        grad = grad.to(weight.dtype).contiguous().flatten(1)
        along_weight = torch.dot(grad.flatten(), matrix.flatten()) / singular_value
        result = torch.addr(grad, u * -along_weight, v) / singular_value
        return result.view(weight.shape), None, None, None, None


def _in_memory_order(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Views of a layer's weight (out, ...) and of its v (...), with the axes in the order of the weight's memory.

    Flattening a channels-last weight in the order (in, kernel), in which v is stored, would copy it.
    """
    weight = module.weight_orig
    v = module.weight_v.view(weight.shape[1:])
    if weight.dim() == 4 and not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1), v.permute(1, 2, 0)
    return weight, v


@torch.no_grad()
def sigma(module: nn.Module) -> Tensor:
    """Current estimate u . (W v) of the largest singular value of a normalized layer's weight, a scalar."""
    weight, v = _in_memory_order(module)
    return torch.dot(module.weight_u, torch.mv(weight.flatten(1), v.flatten()))


def _drop_graph(module: nn.Module, inputs, output) -> None:
    module.weight = module.weight.detach()


def spectral_norm(module: Layer, eps: float = 1e-12, enabled: bool = True) -> Layer:
    """Applies spectral normalization to a convolution, linear layer or embedding, in place, and returns it.

    Its ``weight`` has the output channels, or classes, first. With ``enabled=False`` the layer is returned unchanged.

    Example:
        >>> layer = spectral_norm(nn.Conv2d(3, 8, 3))
        >>> sorted(layer.state_dict())
        ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    if not enabled:
        return module
    weight = module.weight
    del module._parameters['weight']
    module.register_parameter('weight_orig', nn.Parameter(weight.data))
    module.weight = weight.data
    matrix = weight.data.flatten(1)
    for name, size in (('weight_u', matrix.shape[0]), ('weight_v', matrix.shape[1])):
        module.register_buffer(name, F.normalize(matrix.new_empty(size).normal_(), dim=0, eps=eps))
    module.register_forward_pre_hook(SpectralNorm(eps))
    module.register_forward_hook(_drop_graph)
    return module


def spectral_norm_hook(module: nn.Module) -> SpectralNorm | None:
    """Returns the :class:`SpectralNorm` of a layer, or None if it has none."""
    return next((hook for hook in module._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)), None)


def run_power_iterations(network: nn.Module, iterations: int = 15) -> None:
    """Runs power iterations on every normalized layer.

    To be called after initialization: the random u and v of a new layer can underestimate sigma by an order of magnitude.
    """
    for module in network.modules():
        hook = spectral_norm_hook(module)
        for _ in range(iterations if hook else 0):
            hook.power_iteration(module)


@torch.no_grad()
def fold_spectral_norm(network: nn.Module) -> nn.Module:
    """Replaces spectral normalization by constant weights, those of evaluation mode, in place, and returns the network.

    Every normalized layer becomes an ordinary one with a parameter ``weight`` and without hooks. Other layers are unaffected.
    """
    for module in network.modules():
        if spectral_norm_hook(module) is None:
            continue
        weight = nn.Parameter(module.weight_orig / sigma(module), module.weight_orig.requires_grad)
        for name in ('weight', 'weight_orig', 'weight_u', 'weight_v'):
            delattr(module, name)
        module.register_parameter('weight', weight)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(hook, SpectralNorm) or hook is _drop_graph:
                    del hooks[key]
    return network
