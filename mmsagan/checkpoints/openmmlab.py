"""MMGeneration's and MMagic's checkpoints: one file, the names that ours are made after, and mostly BGR images."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from mmsagan.checkpoints.content import NETWORKS
from mmsagan.checkpoints.rules import KeyTable, Rule, without_prefix
from mmsagan.errors import CheckpointError

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
# MMEngine's averaged model counts its steps; ours follows the iterations.
_DROPPED = ('steps',)
GENERATOR = KeyTable(
    (
        *_GENERATOR,
        Rule(f'{_NORM}.norm.{{norm}}', f'{_NORM}.norm.{{norm}}'),
        Rule(f'{_NORM}.{{embedding}}.{{layer}}', f'{_NORM}.{{embedding}}.{{layer}}'),
    ),
    _DROPPED,
)
UNCONDITIONAL_GENERATOR = KeyTable((*_GENERATOR, Rule(f'{_NORM}.norm.{{norm}}', f'{_NORM}.{{norm}}')), _DROPPED)
DISCRIMINATOR = KeyTable(
    (
        Rule('from_rgb.{conv}.conv.{layer}', 'from_rgb.{conv}.{layer}'),
        *_BLOCKS,
        Rule('decision.{layer}', 'decision.{layer}'),
        Rule('proj_y.{layer}', 'proj_y.{layer}'),
    )
)
# Of the whole model, known and of no use here: what normalizes images is a setting.
_DROPPED_OF_MODEL = re.compile(r'data_preprocessor\..+')

# The layers that see an image: which side of their weight that is, and the number of weights a channel.
_IMAGE_LAYERS = {'to_rgb.conv': (0, 9), 'from_rgb.conv_1': (1, 9), 'from_rgb.shortcut': (1, 1)}


def is_openmmlab(keys: Iterable[str]) -> bool:
    """Whether a state dict looks like one of MMGeneration's or MMagic's SAGAN or SNGAN."""
    pattern = rf'({"|".join(NETWORKS)})\.(module\.)?(conv_blocks\.\d+|from_rgb)\.(conv_1|theta)\.conv\.weight'
    return any(re.match(pattern, key) for key in keys)


def to_ours(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Translates a model's networks.

    Args:
        state: The tensors of the whole model.

    Returns:
        Our tensors, in the file's channel order, and the keys that were dropped.

    Raises:
        CheckpointError: A key is not of these networks.
    """
    networks: dict[str, dict[str, Tensor]] = {name: {} for name in NETWORKS}
    ours, dropped = {}, []
    for key, tensor in state.items():
        name, _, rest = key.partition('.')
        if name in networks:
            networks[name][rest] = tensor
        elif _DROPPED_OF_MODEL.fullmatch(key):
            dropped.append(key)
        else:
            raise CheckpointError(f'the key {key[:200]!r} is not of a network that can be converted (SAGAN or SNGAN)')
    for name, tensors in networks.items():
        translated, unused = table_of(name, tensors).to_ours(without_prefix(tensors, 'module.'), prefix=f'{name}.')
        ours.update({f'{name}.{key}': tensor for key, tensor in translated.items()})
        dropped += [f'{name}.{key}' for key in unused]
    return ours, dropped


def table_of(network: str, keys: Iterable[str]) -> KeyTable:
    """The table for the keys of the network ``'generator'``, ``'generator_ema'`` or ``'discriminator'``."""
    if network == 'discriminator':
        return DISCRIMINATOR
    return GENERATOR if any('.weight_embedding.' in key for key in keys) else UNCONDITIONAL_GENERATOR


def swap_red_and_blue(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Makes a model of BGR images one of RGB images, or the other way round.

    Only the layers that see an image change: the order of G's outputs and of D's inputs, in the weight, the bias and the
    spectral norm's vectors. The functions are otherwise the same, and swapping twice gives the same bits.

    Args:
        state: Tensors under our names, with the networks' prefixes.
    """
    return {key: _swapped(key, tensor) for key, tensor in state.items()}


def _swapped(key: str, tensor: Tensor) -> Tensor:
    layer, _, name = key.partition('.')[2].rpartition('.')
    if layer not in _IMAGE_LAYERS:
        return tensor
    side, kernel_size = _IMAGE_LAYERS[layer]
    if name in ('weight', 'weight_orig'):
        return tensor.flip(side)
    if side == 0 and name in ('bias', 'weight_u'):
        return tensor.flip(0)
    if side == 1 and name == 'weight_v':  # (channels * kernel,)
        return tensor.unflatten(0, (-1, kernel_size)).flip(0).flatten()
    return tensor
