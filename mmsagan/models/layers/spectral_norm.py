"""Spectral normalization, in the state-dict layout that the field's checkpoints have."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar('Layer', bound=nn.Module)


class SpectralNorm:
    """Forward pre-hook that divides a layer's weight by a running estimate of its largest singular value.

    The layer's parameter becomes ``weight_orig``; the buffers ``weight_u`` (out,) and ``weight_v`` (in * kernel,) hold the
    left and right singular vectors. Each forward in training mode does one power iteration, with or without a graph; in
    evaluation mode sigma = u . (W v) is taken from the stored vectors. Source: Miyato et al. 2018, algorithm 1.

    ``torch.nn.utils.spectral_norm`` has the same layout and result. This one keeps the power iteration in float32 under
    autocast (on CUDA, torch's runs in half precision there), reads the weight as it lies in memory, channels-last or not, hands
    it over in the precision that the layer computes in, and has a backward pass of its own, with fewer passes over the weight.
    It leaves no autograd graph on the layer after the forward, so a trained network can be deep-copied.

    Args:
        eps: Guards the normalization of u and v against division by zero.
    """

    def __init__(self, eps: float = 1e-12):
        self.eps = eps

    def __call__(self, module: nn.Module, inputs) -> None:
        weight = module.weight_orig
        device_type = weight.device.type
        # A convolution under autocast would round its weight by itself, in a pass of its own. Embeddings are not rounded.
        rounds = torch.is_autocast_enabled(device_type) and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        dtype = torch.get_autocast_dtype(device_type) if rounds else weight.dtype
        with torch.autocast(device_type=device_type, enabled=False):
            u, v, singular_value = self.power_iteration(module) if module.training else stored_singular_value(module)
            if torch.is_grad_enabled() and weight.requires_grad:
                module.weight = _NormalizedWeight.apply(weight, u, v, singular_value, dtype)
            else:  # what can be traced and exported, too
                module.weight = (weight / singular_value).to(dtype)

    @torch.no_grad()
    def power_iteration(self, module: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Moves the layer's u and v one step towards its leading singular vectors, in place.

        Returns:
            Copies of u and of v, in the order of the weight's memory, and sigma.
        """
        weight = module.weight_orig
        matrix = _as_matrix(weight)
        v = F.normalize(torch.mv(matrix.t(), module.weight_u), dim=0, eps=self.eps)
        image = torch.mv(matrix, v)
        u = F.normalize(image, dim=0, eps=self.eps)
        module.weight_u.copy_(u)
        _in_memory_order(module.weight_v, weight).copy_(v.view(_memory_shape(weight)))
        return u, v, torch.dot(u, image)


class _NormalizedWeight(torch.autograd.Function):
    """weight / sigma in a given precision; sigma's gradient with respect to the weight is u v^T."""

    @staticmethod
    def forward(ctx, weight: Tensor, u: Tensor, v: Tensor, singular_value: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(weight, u, v, singular_value)
        return (weight / singular_value).to(dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        weight, u, v, singular_value = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again, sigma included
            singular_value = torch.dot(u, torch.mv(_as_matrix(weight), v))
        layout = torch.channels_last if _is_channels_last(weight) else torch.contiguous_format
        grad = _as_matrix(grad.to(weight.dtype).contiguous(memory_format=layout))
        along_weight = torch.dot(grad.flatten(), _as_matrix(weight).flatten()) / singular_value
        result = torch.addr(grad, u * -along_weight, v) / singular_value
        result = result.view(len(weight), *_memory_shape(weight))
        return result.permute(0, 3, 1, 2) if _is_channels_last(weight) else result, None, None, None, None


@torch.no_grad()
def stored_singular_value(module: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Copies of a normalized layer's u and of its v, in the order of the weight's memory, and sigma by them."""
    weight = module.weight_orig
    u, v = module.weight_u.clone(), _in_memory_order(module.weight_v, weight).flatten().clone()
    return u, v, torch.dot(u, torch.mv(_as_matrix(weight), v))


def _is_channels_last(weight: Tensor) -> bool:
    return weight.dim() == 4 and not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)


def _as_matrix(weight: Tensor) -> Tensor:
    """A weight (out, ...) as a matrix (out, in * kernel) without copying it: columns in the order of its memory."""
    return (weight.permute(0, 2, 3, 1) if _is_channels_last(weight) else weight).flatten(1)


def _memory_shape(weight: Tensor) -> torch.Size:
    """The shape of a row of :func:`_as_matrix`, before it is flattened."""
    return (weight.permute(0, 2, 3, 1) if _is_channels_last(weight) else weight).shape[1:]


def _in_memory_order(v: Tensor, weight: Tensor) -> Tensor:
    """A view of v, which checkpoints have in the order (in, kernel), with the axes in the order of the weight's memory."""
    v = v.view(weight.shape[1:])
    return v.permute(1, 2, 0) if _is_channels_last(weight) else v


def _drop_graph(module: nn.Module, inputs, output) -> None:
    module.weight = module.weight.detach()


def spectral_norm(module: Layer, eps: float = 1e-12) -> Layer:
    """Applies spectral normalization to a conv, linear or embedding layer, in place.

    Args:
        module: The layer; its ``weight`` has the output channels (or classes) first.
        eps: See :class:`SpectralNorm`.

    Returns:
        The same layer.

    Example:
        >>> layer = spectral_norm(nn.Conv2d(3, 8, 3))
        >>> sorted(layer.state_dict())
        ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
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


def normalized(layer: Layer, with_spectral_norm: bool, eps: float = 1e-12) -> Layer:
    """The layer, spectrally normalized if that is wanted."""
    return spectral_norm(layer, eps) if with_spectral_norm else layer


def spectral_norm_hook(module: nn.Module) -> SpectralNorm | None:
    """The :class:`SpectralNorm` of a layer, or None if it has none."""
    return next((hook for hook in module._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)), None)


def settle_spectral_norm(network: nn.Module, iterations: int = 15) -> None:
    """Runs power iterations on every normalized layer, so that sigma is right from the first forward on.

    To be called after the weights have been set from outside (initialization): the random u and v that a new layer has can
    make sigma too small by an order of magnitude.
    """
    for module in network.modules():
        hook = spectral_norm_hook(module)
        if hook is not None:
            for _ in range(iterations):
                hook.power_iteration(module)


def sigma(module: nn.Module) -> Tensor:
    """The layer's current estimate of its weight's largest singular value, a scalar."""
    return stored_singular_value(module)[2]


@torch.no_grad()
def fold_spectral_norm(network: nn.Module) -> nn.Module:
    """Replaces every normalized layer's weight, in place, by the plain one that evaluation mode computes from it.

    For networks that are only sampled from then on: in evaluation mode sigma is a constant. The layers become ordinary ones
    with a parameter ``weight``, without hooks; the network can no longer be trained as it was.

    Args:
        network: Any module; layers without spectral normalization stay as they are.

    Returns:
        The same network.

    Example:
        >>> layer = fold_spectral_norm(spectral_norm(nn.Conv2d(3, 8, 3)))
        >>> sorted(layer.state_dict())
        ['bias', 'weight']
    """
    for module in network.modules():
        if spectral_norm_hook(module) is not None:
            _fold(module)
    return network


def _fold(module: nn.Module) -> None:
    weight = nn.Parameter(module.weight_orig / sigma(module), module.weight_orig.requires_grad)
    for name in ('weight', 'weight_orig', 'weight_u', 'weight_v'):
        delattr(module, name)
    module.register_parameter('weight', weight)
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key, hook in list(hooks.items()):
            if isinstance(hook, SpectralNorm) or hook is _drop_graph:
                del hooks[key]
