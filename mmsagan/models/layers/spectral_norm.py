"""Spectral normalization, in the state-dict layout that the field's checkpoints have."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralNorm:
    """Forward pre-hook that divides a layer's weight by a running estimate of its largest singular value.

    The layer's parameter becomes ``weight_orig``; the buffers ``weight_u`` (out,) and ``weight_v`` (in * kernel,) hold the
    left and right singular vectors. Each forward in training mode does one power iteration, with or without a graph; in
    evaluation mode sigma = u . (W v) is taken from the stored vectors. Source: Miyato et al. 2018, algorithm 1.

    ``torch.nn.utils.spectral_norm`` has the same layout and result. This one keeps the power iteration in float32 under
    autocast (on CUDA, torch's runs in half precision there), and leaves no autograd graph on the layer after the forward, so
    a trained network can be deep-copied.

    Args:
        eps: Guards the normalization of u and v against division by zero.
    """

    def __init__(self, eps: float = 1e-12):
        self.eps = eps

    def __call__(self, module: nn.Module, inputs) -> None:
        weight = module.weight_orig
        with torch.autocast(device_type=weight.device.type, enabled=False):
            if module.training:
                self.power_iteration(module)
            # The next power iteration changes the buffers in place; the graph of this forward keeps its own copies.
            u, v = module.weight_u.clone(), module.weight_v.clone()
            module.weight = weight / _singular_value(weight, u, v)

    @torch.no_grad()
    def power_iteration(self, module: nn.Module) -> None:
        """Moves the layer's u and v one step towards its leading singular vectors, in place."""
        matrix = module.weight_orig.flatten(1)
        F.normalize(torch.mv(matrix.t(), module.weight_u), dim=0, eps=self.eps, out=module.weight_v)
        F.normalize(torch.mv(matrix, module.weight_v), dim=0, eps=self.eps, out=module.weight_u)


def _singular_value(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    return torch.dot(u, torch.mv(weight.flatten(1), v))


def _drop_graph(module: nn.Module, inputs, output) -> None:
    module.weight = module.weight.detach()


def spectral_norm(module: nn.Module, eps: float = 1e-12) -> nn.Module:
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
    return _singular_value(module.weight_orig.detach(), module.weight_u, module.weight_v)


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
