"""The attention maps of a generator's layers, for chosen pixels of its images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmsagan.errors import ConfigError, DataError
from mmsagan.models.data_preprocessor import to_uint8
from mmsagan.models.gan import ConditionalGAN
from mmsagan.models.layers.attention import SelfAttentionBlock


@dataclass(frozen=True)
class AttentionMaps:
    """Images, and how much attention goes from some of their pixels, the queries, to every pixel.

    The name of a layer is the size of its feature map, as in the paper: ``feat32``; a second one of a size is ``feat32-2``.
    """

    images: Tensor  #: (N, 3, H, W), uint8 RGB
    queries: Tensor  #: pixels (x, y), (N, Q, 2)
    maps: dict[str, Tensor]  #: (N, Q, H, W), float32, each of sum 1, by the name of the layer, in the order of the layers

    def select(self, layer: str) -> dict[str, Tensor]:
        """Returns the maps of the ``'last'`` layer, of ``'all'`` layers, or of the layer of that name."""
        if layer == 'all':
            return self.maps
        name = list(self.maps)[-1] if layer == 'last' else layer
        if name not in self.maps:
            raise ConfigError(f"no attention layer {layer!r}; choose 'last', 'all' or one of {', '.join(self.maps)}")
        return {name: self.maps[name]}


def attention_layers(network: nn.Module) -> list[SelfAttentionBlock]:
    """Returns the attention layers of a network."""
    return [module for module in network.modules() if isinstance(module, SelfAttentionBlock)]


@torch.no_grad()
def sample_attention(
    model: ConditionalGAN,
    noise: Tensor,
    label: Tensor | None,
    queries: Tensor | Callable[[Tensor], Tensor],
    sample_model: str | None = None,
) -> AttentionMaps:
    """Generates images and the attention maps of the layers that made them, and returns both on the CPU.

    The softmax of equation 1 is recomputed from the input of each layer, for the queries only: beyond sampling, this takes the
    memory of these inputs and of (N, Q, keys) weights. The model is left unchanged, also in the middle of training.

    Args:
        noise, label: (N, noise_size); and classes (N,), or class weights, None for an unconditional model.
        queries: Pixels (x, y), (N, Q, 2), or a function that returns them for images (N, 3, H, W), uint8.
        sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.
    """
    network = model.get_generator(sample_model)
    layers = attention_layers(network)
    if not layers:
        raise ConfigError(f'the generator {type(network).__name__} has no attention layer (SelfAttentionBlock)')
    if label is not None:
        model.check_label(label, len(noise))
        label = label.to(model.device)

    inputs: list[tuple[SelfAttentionBlock, Tensor]] = []
    handles = [layer.register_forward_pre_hook(lambda module, args: inputs.append((module, args[0]))) for layer in layers]
    was_training = network.training
    network.eval()
    try:
        with torch.autocast(model.device.type, enabled=False):  # whatever precision the caller trains in
            # Not model.sample, which may use a copy, nor a compiled call, which would skip the hooks.
            images = network.forward(noise.to(model.device), label=label)
            if not images.isfinite().all():
                raise DataError('the samples contain NaN or Inf: the generator has diverged')
            images = to_uint8(images).cpu()
            queries = queries(images) if callable(queries) else queries
            height, width = images.shape[2:]
            if queries.dim() != 3 or len(queries) != len(images) or queries.shape[2] != 2 or not queries.shape[1]:
                raise ConfigError(f'queries must be pixels (x, y) of shape ({len(images)}, Q, 2), got {tuple(queries.shape)}')
            outside = queries[((queries < 0) | (queries >= torch.tensor([width, height]))).any(-1)].tolist()
            if outside:
                raise ConfigError(f'query {outside[0][0]},{outside[0][1]} lies outside the image of {width}x{height} pixels')
            maps: dict[str, Tensor] = {}
            for block, features in list(inputs):
                name = f'feat{features.shape[2]}'
                same_size = sum(other.partition('-')[0] == name for other in maps)
                name += f'-{same_size + 1}' if same_size else ''
                maps[name] = pixel_maps(block, features, queries, (height, width)).cpu()
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return AttentionMaps(images, queries, maps)


def pixel_maps(block: SelfAttentionBlock, features: Tensor, queries: Tensor, size: tuple[int, int]) -> Tensor:
    """Computes a layer's maps in pixels (N, Q, H, W), each of sum 1, from its input (N, C, h, w) and pixels (x, y), (N, Q, 2).

    A query is the location whose features the pixel is made from. The weight of a key is spread evenly over its square of
    pixels (nearest-neighbour interpolation), which keeps each square's share of the attention.
    """
    height, width = size
    x, y = queries.to(features.device).unbind(-1)
    rows, columns = features.shape[2:]
    locations = y * rows // height * columns + x * columns // width
    grid = block.key_grid(features)
    weights = block.attention(features, locations).unflatten(2, grid)
    tall, wide = height // grid[0], width // grid[1]
    return weights.repeat_interleave(tall, 2).repeat_interleave(wide, 3) / (tall * wide)
