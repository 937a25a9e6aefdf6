"""Where a generator's attention layers look, for chosen pixels of its images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmsagan.errors import ConfigError, DataError
from mmsagan.models.data_preprocessor import to_uint8
from mmsagan.models.gan import ConditionalGAN
from mmsagan.models.layers import SelfAttentionBlock

Chooser = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AttentionMaps:
    """Images, and for some pixels of each, the queries, how much attention goes from there to every pixel.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        queries: (N, Q, 2), pixels (x, y).
        maps: Maps (N, Q, H, W) float32 by the layer's name, in the order in which the layers run; each map sums to 1. The name
            is the size of the layer's feature map, as in the paper: ``feat32``.
    """

    images: Tensor
    queries: Tensor
    maps: dict[str, Tensor]

    def select(self, layer: str) -> dict[str, Tensor]:
        """The maps of the layer ``'last'``, of ``'all'``, or of the one of that name.

        Raises:
            ConfigError: There is no such layer.
        """
        if layer == 'all':
            return self.maps
        name = list(self.maps)[-1] if layer == 'last' else layer
        if name not in self.maps:
            raise ConfigError(f"no attention layer {layer!r}; choose 'last', 'all' or one of {', '.join(self.maps)}")
        return {name: self.maps[name]}


@torch.no_grad()
def sample_attention(
    model: ConditionalGAN,
    noise: Tensor,
    label: Tensor | None,
    queries: Tensor | Chooser,
    sample_model: str | None = None,
) -> AttentionMaps:
    """Makes images and the attention maps of the layers that made them.

    The softmax of equation 1 is computed anew from each layer's input, for the wanted queries only: beyond what sampling takes,
    memory holds these inputs and (N, Q, keys) weights.

    Args:
        model: The GAN; its weights and statistics stay as they are, also while it is trained.
        noise: (N, noise_size).
        label: Classes (N,), or class weights; None for an unconditional model.
        queries: Pixels (x, y), (N, Q, 2); or a function that chooses them from the images (N, 3, H, W) uint8.
        sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.

    Returns:
        Images, queries and maps, on the CPU.

    Raises:
        ConfigError: The generator has no attention layer, or a query lies outside the image.
        DataError: The model gives NaN or Inf.
    """
    network = model.get_generator(sample_model)
    if not attention_layers(network):
        raise ConfigError(f'the generator {type(network).__name__} has no attention layer (SelfAttentionBlock) to look at')
    device = next(network.parameters()).device
    if label is not None:
        model.check_label(label, len(noise))
    was_training = network.training
    # For the layers that compute their softmax anew, too: spectral norms in training mode would go on iterating.
    network.eval()
    try:
        # Whatever precision the caller trains in.
        with torch.autocast(device.type, enabled=False), _noted_inputs(network) as inputs:
            # Not model.sample, which may use a copy or a compiled network, where the inputs go unnoticed.
            images = network.forward(noise.to(device), label=None if label is None else label.to(device))
        if not images.isfinite().all():
            raise DataError('the samples hold NaN or Inf: the generator has diverged')
        images = to_uint8(images).cpu()
        queries = queries(images) if callable(queries) else queries
        check_queries(queries, images)
        with torch.autocast(device.type, enabled=False):
            maps = {
                name: pixel_maps(block, features, queries, (images.shape[2], images.shape[3])).cpu()
                for name, (block, features) in zip(_layer_names(inputs), inputs)
            }
    finally:
        network.train(was_training)
    return AttentionMaps(images, queries, maps)


def pixel_maps(block: SelfAttentionBlock, features: Tensor, queries: Tensor, size: tuple[int, int]) -> Tensor:
    """An attention layer's maps in pixels.

    A query is the location whose features the pixel is made from. A key covers a square of pixels, among which its weight is
    divided evenly: nearest-neighbour interpolation, the one that leaves every square's share of the attention as it is, where
    smoother ones blur it into its neighbours.

    Args:
        block: The layer.
        features: Its input (N, C, h, w).
        queries: Pixels (x, y), (N, Q, 2).
        size: H and W of the image, multiples of the grid of keys.

    Returns:
        (N, Q, H, W), each map summing to 1.
    """
    height, width = size
    x, y = queries.to(features.device).unbind(-1)
    rows, columns = features.shape[2:]
    locations = y * rows // height * columns + x * columns // width
    grid = block.key_grid(features)
    weights = block.attention(features, locations).unflatten(2, grid)
    tall, wide = height // grid[0], width // grid[1]
    return weights.repeat_interleave(tall, 2).repeat_interleave(wide, 3) / (tall * wide)


def check_queries(queries: Tensor, images: Tensor) -> None:
    """Raises a ConfigError if a query (x, y) lies outside its image, or there are not as many sets of them as images."""
    height, width = images.shape[2:]
    if queries.dim() != 3 or queries.shape[0] != len(images) or queries.shape[2] != 2 or not queries.shape[1]:
        raise ConfigError(f'queries must be pixels (x, y) of shape ({len(images)}, Q, 2), got {tuple(queries.shape)}')
    outside = ((queries < 0) | (queries >= torch.tensor([width, height]))).any(-1)
    if outside.any():
        x, y = queries[outside][0].tolist()
        raise ConfigError(f'query {x},{y} lies outside the image: x goes from 0 to {width - 1}, y from 0 to {height - 1}')


def attention_layers(network: nn.Module) -> list[SelfAttentionBlock]:
    """The attention layers of a network."""
    return [module for module in network.modules() if isinstance(module, SelfAttentionBlock)]


@contextmanager
def _noted_inputs(network: nn.Module) -> Iterator[list[tuple[SelfAttentionBlock, Tensor]]]:
    """Within it, the network's attention layers and their inputs are noted down as they run."""
    noted = []
    handles = [
        block.register_forward_pre_hook(lambda module, arguments: noted.append((module, arguments[0])))
        for block in attention_layers(network)
    ]
    try:
        yield noted
    finally:
        for handle in handles:
            handle.remove()


def _layer_names(inputs: list[tuple[SelfAttentionBlock, Tensor]]) -> list[str]:
    """``feat<size>``; the second layer of a size is ``feat<size>-2``, and so on."""
    sizes = [features.shape[2] for _, features in inputs]
    numbers = [sizes[: place + 1].count(size) for place, size in enumerate(sizes)]
    return [f'feat{size}' if number == 1 else f'feat{size}-{number}' for size, number in zip(sizes, numbers)]
