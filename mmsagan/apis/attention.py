"""Attention maps of a trained generator."""

import itertools
from collections.abc import Sequence
from functools import partial
from numbers import Integral

import torch
from numpy import ndarray
from torch import Tensor

from mmsagan.apis.sampling import Labels, Noise, resolve_inputs, split_batches
from mmsagan.errors import ConfigError
from mmsagan.evaluation.images import deterministic_float32
from mmsagan.models import ConditionalGAN
from mmsagan.models.attention_maps import AttentionMaps, sample_attention
from mmsagan.models.gan import unwrap
from mmsagan.visualization import salient_queries

Queries = int | Sequence[tuple[int, int]] | Tensor | ndarray


def attention_maps(
    model: ConditionalGAN,
    queries: Queries = 4,
    num_samples: int = 4,
    labels: Labels | None = None,
    noise: Noise | None = None,
    seed: int | None = None,
    sample_model: str | None = None,
    truncation: float | None = None,
    batch_size: int = 8,
) -> AttentionMaps:
    """Generates images, and the attention map of every attention layer of the generator for chosen pixels of each image.

    The maps are the softmax of the paper's equation 1, also for the official form of attention with max-pooled keys. Other
    arguments and the errors are those of :func:`~mmsagan.apis.sample`, which generates the same images.

    Args:
        queries: Pixels (x, y), counted from the upper left corner: the same for all samples (Q, 2), or for each sample
            (N, Q, 2). An integer selects that many salient pixels of each image, see
            :func:`~mmsagan.visualization.salient_queries`.
        batch_size: Number of images per forward pass. Attention without pooling over 64x64 locations takes 150 MB for each.

    Example:
        >>> model = init_model('configs/sagan/sagan_32_mnist_b32x1.py')
        >>> result = attention_maps(model, [(16, 16), (0, 0)], labels=[3, 5], seed=0)
        >>> {layer: maps.shape for layer, maps in result.maps.items()}
        {'feat16': torch.Size([2, 2, 32, 32])}
    """
    model = unwrap(model)
    noise, label = resolve_inputs(model, num_samples, labels, noise, seed, truncation)
    batches = split_batches(noise, label, batch_size)
    if isinstance(queries, Integral):
        chosen = itertools.repeat(partial(salient_queries, count=int(queries)))
    else:
        pixels = torch.as_tensor(queries, device='cpu')
        if pixels.dim() == 2:
            pixels = pixels.expand(len(noise), -1, -1)
        if pixels.is_floating_point() or pixels.dim() != 3 or len(pixels) != len(noise):
            raise ConfigError(f'queries must be integers of shape (Q, 2) or ({len(noise)}, Q, 2), got {queries!r}')
        chosen = pixels.long().split(batch_size)
    with deterministic_float32():
        parts = [sample_attention(model, *batch, pixels, sample_model) for batch, pixels in zip(batches, chosen)]
    return AttentionMaps(
        torch.cat([part.images for part in parts]),
        torch.cat([part.queries for part in parts]),
        {layer: torch.cat([part.maps[layer] for part in parts]) for layer in parts[0].maps},
    )
