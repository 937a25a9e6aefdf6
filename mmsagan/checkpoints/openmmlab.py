"""MMGeneration's and MMagic's checkpoints: one file, names much like ours, and mostly BGR images."""

from collections.abc import Mapping

from torch import Tensor

from mmsagan.checkpoints.rules import KeyTable, Rule

_BLOCKS = (
    Rule('conv_blocks.{block}.{conv}.conv.{layer}', 'conv_blocks.{block}.{conv}.{layer}'),
    Rule('conv_blocks.{block}.gamma', 'conv_blocks.{block}.gamma'),
    Rule('conv_blocks.{block}.{projection}.conv.{layer}', 'conv_blocks.{block}.{projection}.{layer}'),
)
_GENERATOR = (
    Rule('noise2feat.{layer}', 'noise2feat.{layer}'),
    *_BLOCKS,
    Rule('to_rgb.bn.{norm}', 'to_rgb.bn.{norm}'),
    Rule('to_rgb.conv.{layer}', 'to_rgb.conv.{layer}'),
)
_NORM = 'conv_blocks.{block}.norm_{number}'
GENERATOR = KeyTable(
    (
        *_GENERATOR,
        Rule(f'{_NORM}.norm.{{norm}}', f'{_NORM}.norm.{{norm}}'),
        Rule(f'{_NORM}.{{embedding}}.{{layer}}', f'{_NORM}.{{embedding}}.{{layer}}'),
    ),
)
UNCONDITIONAL_GENERATOR = KeyTable((*_GENERATOR, Rule(f'{_NORM}.norm.{{norm}}', f'{_NORM}.{{norm}}')))
DISCRIMINATOR = KeyTable(
    (
        Rule('from_rgb.{conv}.conv.{layer}', 'from_rgb.{conv}.{layer}'),
        *_BLOCKS,
        Rule('decision.{layer}', 'decision.{layer}'),
        Rule('proj_y.{layer}', 'proj_y.{layer}'),
    )
)

# The layers that see an image: which dimension of their weight is the image's channels, and the number of weights per channel.
_IMAGE_LAYERS = {'to_rgb.conv': (0, 9), 'from_rgb.conv_1': (1, 9), 'from_rgb.shortcut': (1, 1)}


def swap_red_and_blue(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turns a model of BGR images into one of RGB images, or the other way round.

    Only the layers that see an image change: the order of G's outputs and of D's inputs, in the weight, the bias and the
    vectors of the spectral norm. Swapping twice restores the same bits.
    """
    swapped = dict(state)
    for key, tensor in state.items():
        layer, _, name = key.partition('.')[2].rpartition('.')
        if layer not in _IMAGE_LAYERS:
            continue
        dim, kernel_size = _IMAGE_LAYERS[layer]
        if name in ('weight', 'weight_orig'):
            swapped[key] = tensor.flip(dim)
        elif dim == 0 and name in ('bias', 'weight_u'):
            swapped[key] = tensor.flip(0)
        elif dim == 1 and name == 'weight_v':  # (channels * kernel,)
            swapped[key] = tensor.unflatten(0, (-1, kernel_size)).flip(0).flatten()
    return swapped
