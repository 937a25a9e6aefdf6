"""Spectral normalization with the state-dict layout of the published checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Largest number of elements of weights that are stacked, to be multiplied in one kernel. A GPU copies a million of them in the
# time that it takes to start a kernel; on a CPU, only small copies cost nothing.
STACKED_UP_TO = {'cpu': 1 << 15, 'cuda': 1 << 20}
Layer = TypeVar('Layer', bound=nn.Module)


@dataclass(eq=False)
class SpectralNorm:
    """Forward pre-hook that divides a layer's weight by an estimate of its largest singular value sigma.

    The layer's parameter becomes ``weight_orig``; the buffers ``weight_u`` (out,) and ``weight_v`` (in * kernel,) hold the
    left and right singular vectors. Each forward pass in training mode runs one power iteration; in evaluation mode
    sigma = u . (W v) is computed from the stored vectors. Source: Miyato et al. 2018, algorithm 1.

    Layout and result are those of ``torch.nn.utils.spectral_norm``. Here, the power iteration stays in float32 under autocast,
    channels-last weights are read without a copy, the backward pass reads the weight fewer times, and neither an autograd graph
    nor a second weight remains on the layer.
    """

    eps: float = 1e-12  #: lower bound of the norms that u and v are divided by
    is_done: bool = False  # for the coming forward pass, by the hook of the network

    def __call__(self, module: nn.Module, inputs) -> None:
        if not self.is_done or module.weight.dtype != _autocast_dtype(module):  # autocast may be off for this layer alone
            normalize([module], iterates=module.training and not self.is_done)


class NetworkSpectralNorm:
    """Forward hooks of a network, which normalize all layers that have a :class:`SpectralNorm` before the first one runs.

    On a GPU, what can be computed for all layers at once takes one kernel instead of one for each of them.
    """

    def __init__(self, network: nn.Module):
        self.layers = [module for module in network.modules() if spectral_norm_hook(module)]
        network.register_forward_pre_hook(self.before)
        network.register_forward_hook(self.after, always_call=True)

    def before(self, network: nn.Module, inputs) -> None:
        for mode in (True, False):
            layers = [layer for layer in self.layers if layer.training == mode and 'weight_orig' in layer._parameters]
            if layers:
                normalize(layers, iterates=mode)
                for layer in layers:
                    spectral_norm_hook(layer).is_done = True

    def after(self, network: nn.Module, inputs, output) -> None:
        for layer in self.layers:
            hook = spectral_norm_hook(layer)
            if hook is not None and hook.is_done:  # it has not run, or an error has ended its run
                _release_weight(layer, inputs, output)


def normalize(layers: Sequence[nn.Module], iterates: bool) -> None:
    """Sets the ``weight`` of normalized layers, after a power iteration of each if ``iterates``."""
    weights = [_in_memory_order(layer)[0] for layer in layers]
    dtypes = [_autocast_dtype(layer) for layer in layers]
    with torch.autocast(weights[0].device.type, enabled=False):
        if iterates:
            vectors, sigmas = power_iteration(layers)
        else:
            vectors = [layer.weight_u.clone() for layer in layers]
            vectors += [_in_memory_order(layer)[1].flatten().clone() for layer in layers]
            sigmas = torch.stack([sigma(layer) for layer in layers])
        normalized = _NormalizedWeights.apply(dtypes, sigmas, *vectors, *weights)
    for layer, weight, result in zip(layers, weights, normalized):
        layer.weight = result if weight is layer.weight_orig else result.permute(0, 3, 1, 2)


def _autocast_dtype(layer: nn.Module) -> torch.dtype:
    """The dtype that autocast would round a layer's weight to, in a pass of its own. It does not round embeddings."""
    device_type = layer.weight_orig.device.type
    rounds = torch.is_autocast_enabled(device_type) and isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))
    return torch.get_autocast_dtype(device_type) if rounds else layer.weight_orig.dtype


@torch.no_grad()
def power_iteration(layers: Sequence[nn.Module]) -> tuple[list[Tensor], Tensor]:
    """Moves u and v of L layers one step towards the leading singular vectors, in place.

    Returns copies, first of each u, then of each v, in the order of the weight's memory; and the sigmas (L,).
    """
    weights, buffers = zip(*map(_in_memory_order, layers))
    matrices = [weight.flatten(1) for weight in weights]
    eps = [spectral_norm_hook(layer).eps for layer in layers]
    batches = [(numbers, _stack(matrices, numbers)) for numbers in _equal_shapes(matrices)]
    vs = _products([(numbers, matrix.mT) for numbers, matrix in batches], [layer.weight_u for layer in layers])
    torch._foreach_div_(vs, torch._foreach_clamp_min(torch._foreach_norm(vs), eps))
    us = _products(batches, vs)
    sigmas = torch._foreach_norm(us)  # u . (W v), where u is the direction of W v
    torch._foreach_div_(us, torch._foreach_clamp_min(sigmas, eps))
    torch._foreach_copy_([layer.weight_u for layer in layers], us)
    torch._foreach_copy_(buffers, [v.view(buffer.shape) for v, buffer in zip(vs, buffers)])
    return [*us, *vs], torch.stack(sigmas)


def _equal_shapes(matrices: Sequence[Tensor]) -> list[list[int]]:
    """Groups matrices by their numbers: three or more small ones of equal shape, to be stacked, each of the others alone."""
    groups: dict[torch.Size, list[int]] = {}
    for number, matrix in enumerate(matrices):
        groups.setdefault(matrix.shape, []).append(number)
    most = STACKED_UP_TO.get(matrices[0].device.type, 0)
    groups = {shape: numbers for shape, numbers in groups.items() if len(numbers) > 2 and shape.numel() <= most}
    alone = set(range(len(matrices))).difference(*groups.values())
    return [*groups.values(), *([number] for number in sorted(alone))]


def _stack(tensors: Sequence[Tensor], numbers: list[int]) -> Tensor:
    return torch.stack([tensors[number] for number in numbers]) if len(numbers) > 1 else tensors[numbers[0]]


def _products(batches: Sequence[tuple[list[int], Tensor]], vectors: Sequence[Tensor]) -> list[Tensor]:
    """Multiplies each matrix with the vector of its number; a stack of matrices in one kernel."""
    results = list(vectors)
    for numbers, matrix in batches:
        if len(numbers) == 1:
            results[numbers[0]] = torch.mv(matrix, vectors[numbers[0]])
            continue
        products = torch.bmm(matrix, _stack(vectors, numbers)[..., None])
        for number, product in zip(numbers, products.squeeze(2)):
            results[number] = product
    return results


class _NormalizedWeights(torch.autograd.Function):
    """weight / sigma of L layers, in given dtypes; the gradient of sigma with respect to the weight is u v^T."""

    @staticmethod
    def forward(ctx, dtypes: list[torch.dtype], sigmas: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(sigmas, *tensors)
        weights = tensors[-len(dtypes) :]
        results = list(torch._foreach_div(weights, sigmas.unbind()))
        rounded = [number for number, weight in enumerate(weights) if weight.dtype != dtypes[number]]
        if rounded:
            copies = [torch.empty_like(weights[number], dtype=dtypes[number]) for number in rounded]
            torch._foreach_copy_(copies, [results[number] for number in rounded])
            for number, copy in zip(rounded, copies):
                results[number] = copy
        frozen = [result for result, needed in zip(results, ctx.needs_input_grad[-len(dtypes) :]) if not needed]
        if frozen:  # else the layers would compute the gradients of all weights if one needs one
            ctx.mark_non_differentiable(*frozen)
        return tuple(results)

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        sigmas, *tensors = ctx.saved_tensors
        used = [number for number, grad in enumerate(grads) if grad is not None]
        columns = [tensors[start : start + len(grads)] for start in range(0, len(tensors), len(grads))]
        us, vs, weights = ([column[number] for number in used] for column in columns)
        matrices = [weight.flatten(1) for weight in weights]
        results: list[Tensor | None] = [None] * len(grads)
        if torch.is_grad_enabled():  # for double backward, sigma has to depend on the weight
            for number, u, v, matrix in zip(used, us, vs, matrices):
                singular_value = torch.dot(u, torch.mv(matrix, v))
                grad = grads[number].to(matrix.dtype).contiguous().flatten(1)
                along_weight = torch.dot(grad.flatten(), matrix.flatten()) / singular_value
                result = torch.addr(grad, u * -along_weight, v) / singular_value
                results[number] = result.view(grads[number].shape)
        elif used:
            full = [grads[number] for number in used]
            others = [
                place for place, grad in enumerate(full) if grad.dtype != weights[place].dtype or not grad.is_contiguous()
            ]
            if others:
                copies = [torch.empty_like(weights[place]) for place in others]
                torch._foreach_copy_(copies, [full[place] for place in others])
                full = [copies.pop(0) if place in others else grad for place, grad in enumerate(full)]
            singular_values = sigmas[used] if len(used) < len(grads) else sigmas
            groups, corrected = _equal_shapes(matrices), [grad.flatten(1) for grad in full]
            stacks = [_stack(corrected, numbers) for numbers in groups]
            rows = [(numbers, stack.flatten(-2).unsqueeze(-2)) for numbers, stack in zip(groups, stacks)]
            products = torch.cat(_products(rows, [matrix.flatten() for matrix in matrices]))
            scaled = torch._foreach_mul(us, products.div_(singular_values).neg_().unbind())
            for numbers, stack in zip(groups, stacks):
                if len(numbers) == 1:
                    corrected[numbers[0]] = torch.addr(stack, scaled[numbers[0]], vs[numbers[0]])
                    continue
                outer = torch.baddbmm(stack, _stack(scaled, numbers).unsqueeze(2), _stack(vs, numbers).unsqueeze(1))
                for number, result in zip(numbers, outer):
                    corrected[number] = result
            torch._foreach_div_(corrected, singular_values.unbind())
            for number, grad in zip(used, corrected):
                results[number] = grad.view(grads[number].shape)
        return (None, None, *[None] * (2 * len(grads)), *results)


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


def _release_weight(module: nn.Module, inputs, output) -> None:
    module.weight = module.weight_orig.detach()  # which takes no memory
    spectral_norm_hook(module).is_done = False  # a second run in the same forward pass of the network is normalized anew


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
    module.spectral_norm = SpectralNorm(eps)
    module.register_forward_pre_hook(module.spectral_norm)
    module.register_forward_hook(_release_weight)
    return module


def spectral_norm_hook(module: nn.Module) -> SpectralNorm | None:
    """Returns the :class:`SpectralNorm` of a layer, or None if it has none."""
    return module.__dict__.get('spectral_norm')


def run_power_iterations(network: nn.Module, iterations: int = 15) -> None:
    """Runs power iterations on every normalized layer.

    To be called after initialization: the random u and v of a new layer can underestimate sigma by an order of magnitude.
    """
    layers = [module for module in network.modules() if spectral_norm_hook(module)]
    for _ in range(iterations if layers else 0):
        power_iteration(layers)


@torch.no_grad()
def fold_spectral_norm(network: nn.Module) -> nn.Module:
    """Replaces spectral normalization by constant weights, those of evaluation mode, in place, and returns the network.

    Every normalized layer becomes an ordinary one with a parameter ``weight`` and without hooks. Other layers are unaffected.
    """
    for module in network.modules():
        if spectral_norm_hook(module) is None:
            continue
        weight = nn.Parameter(module.weight_orig / sigma(module), module.weight_orig.requires_grad)
        for name in ('weight', 'weight_orig', 'weight_u', 'weight_v', 'spectral_norm'):
            delattr(module, name)
        module.register_parameter('weight', weight)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(hook, SpectralNorm) or hook is _release_weight:
                    del hooks[key]
    return network
