"""MMGeneration's and MMagic's checkpoints: one file, names much like ours, and mostly BGR images."""

import re
from collections.abc import Mapping

from torch import Tensor

# Layers that are wrapped in mmcv's ConvModule there.
_CONVOLUTION = re.compile(r'((?:conv_blocks\.\d+|from_rgb)\.(?:conv_1|conv_2|shortcut|theta|phi|g|o))\.conv\.')
# The layers that see an image: which dimension of their weight is the image's channels, and the number of weights per channel.
_IMAGE_LAYERS = {'to_rgb.conv': (0, 9), 'from_rgb.conv_1': (1, 9), 'from_rgb.shortcut': (1, 1)}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a network under our names; those that have no counterpart here keep theirs."""
    state = {_CONVOLUTION.sub(r'\1.', key): tensor for key, tensor in state.items()}
    if any('.weight_embedding.' in key for key in state):
        return state
    return {re.sub(r'(\.norm_[12])\.norm\.', r'\1.', key): tensor for key, tensor in state.items()}


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
