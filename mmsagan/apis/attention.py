"""What a trained generator attends to."""

import itertools
import re
from collections.abc import Sequence
from functools import partial
from numbers import Integral

import torch
from numpy import ndarray
from torch import Tensor

from mmsagan.apis.sampling import Labels, Noise, batches_of, resolve_inputs
from mmsagan.errors import ConfigError
from mmsagan.evaluation.plan import exact_arithmetic
from mmsagan.models import ConditionalGAN
from mmsagan.models.attention_maps import AttentionMaps, sample_attention
from mmsagan.utils.modules import unwrap
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
    """Makes images, and for chosen pixels of each the map of what every attention layer of the generator attends to there.

    The maps are the softmax of the paper's equation 1, whatever way the layers compute their output, and in the official form
    of attention (keys max-pooled 2x2) as in the paper's. Only the queries' rows of it are computed.

    Args:
        model: As :func:`~mmsagan.apis.init_model` gives it.
        queries: Pixels (x, y), counted from the upper left corner: the same ones for all samples (Q, 2), or those of each
            (N, Q, 2). A number chooses as many salient ones in each image, see
            :func:`~mmsagan.visualization.salient_queries`.
        num_samples: As in :func:`~mmsagan.apis.sample`, which makes the same images of the same arguments.
        labels: As in ``sample``.
        noise: As in ``sample``.
        seed: As in ``sample``.
        sample_model: As in ``sample``.
        truncation: As in ``sample``.
        batch_size: Images at a time. Of attention without pooling on 64x64 locations, each takes about 150 MB on the way.

    Returns:
        ``images`` (N, 3, H, W) uint8 RGB, ``queries`` (N, Q, 2), and ``maps``: by the layer's name (N, Q, H, W) float32, each
        map summing to 1 over the pixels.

    Raises:
        ConfigError: An argument is out of range or does not fit the model, or the generator has no attention layer.
        DataError: The model gives NaN or Inf.

    Example:
        >>> model = init_model('configs/sagan/sagan_32_mnist_b64x1.py')
        >>> result = attention_maps(model, [(16, 16), (0, 0)], labels=[3, 5], seed=0)
        >>> {layer: maps.shape for layer, maps in result.maps.items()}
        {'feat16': torch.Size([2, 2, 32, 32])}
    """
    model = unwrap(model)
    noise, label = resolve_inputs(model, num_samples, labels, noise, seed, truncation)
    batches = batches_of(noise, label, batch_size)
    if isinstance(queries, Integral) and not isinstance(queries, bool):
        chosen = itertools.repeat(partial(salient_queries, count=int(queries)))
    else:
        chosen = _as_queries(queries, len(noise)).split(batch_size)
    with exact_arithmetic():
        parts = [sample_attention(model, *batch, pixels, sample_model) for batch, pixels in zip(batches, chosen)]
    return AttentionMaps(
        torch.cat([part.images for part in parts]),
        torch.cat([part.queries for part in parts]),
        {layer: torch.cat([part.maps[layer] for part in parts]) for layer in parts[0].maps},
    )


def _as_queries(queries: Queries, num_samples: int) -> Tensor:
    try:
        pixels = torch.as_tensor(queries, device='cpu')
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f'queries must be a number, or pixels (x, y), got {queries!r}') from error
    if pixels.dim() == 2:
        pixels = pixels.expand(num_samples, -1, -1)
    if (
        not pixels.dtype.is_signed
        or pixels.is_floating_point()
        or pixels.is_complex()
        or pixels.dim() != 3
        or len(pixels) != num_samples
    ):
        raise ConfigError(f'queries must be whole numbers of shape (Q, 2) or ({num_samples}, Q, 2), got {queries!r}')
    return pixels.long()


def parse_queries(text: str) -> list[tuple[int, int]] | None:
    """Pixels as they are written on a command line; None for ``auto``, which leaves the choice.

    Raises:
        ConfigError: The text is not of that form.

    Example:
        >>> parse_queries('16,16;4,20')
        [(16, 16), (4, 20)]
    """
    if text == 'auto':
        return None
    found = [re.fullmatch(r'\s*(\d{1,5})\s*,\s*(\d{1,5})\s*', part) for part in text.split(';')]
    pixels = [(int(match[1]), int(match[2])) for match in found if match]
    if len(pixels) < len(found):
        raise ConfigError(f"queries {text!r}: write auto, or pixels in quotes, such as '16,16;4,20'")
    return pixels
