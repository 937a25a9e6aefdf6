"""Fine-tuning: the weights of another model, for other classes, and for another size as far as its blocks fit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmsagan.checkpoints.architecture import State, get_network
from mmsagan.errors import ConfigError

CLASS_LAYERS = ('weight_embedding', 'bias_embedding', 'proj_y', 'classifier')  # their weights and biases have a row per class


@dataclass(frozen=True)
class InitFrom:
    """``model.init_from``: what a training starts from.

    ``class_embeddings`` are the rows of the classes in conditional norms, projection and auxiliary classifier: the ``'mean'``
    of the checkpoint's, ``'random'`` as initialized, or those of the classes in a dict ``{new: old}`` of numbers or names.
    """

    checkpoint: str  # a file or URL of any format that can be loaded, or the name of a published model
    class_embeddings: str | dict = 'mean'


def transfer_weights(
    own: State,
    loaded: State,
    class_embeddings: str | dict = 'mean',
    classes: Sequence[str] = (),
    loaded_classes: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint, under our names, that fit a model, with rows for the model's classes.

    Blocks, and the attention between them, are counted from the image, so that those of a model for 128 pixels fit one for 64.
    A layer without spectral norm gets the weight that the checkpoint's was normalized to. The moving average stands in for a
    missing generator. Raises a ConfigError for a tensor of another shape, or a class that does not exist.
    """
    fitting = {}
    for network in ('generator', 'discriminator'):
        from_end, ours = network == 'generator', get_network(own, network)
        theirs = get_network(loaded, network) or get_network(loaded, f'{network}_ema')
        sources = {place: theirs[key] for key, place in _places(theirs, from_end).items()}
        for key, place in _places(ours, from_end).items():
            layer, _, name = key.rpartition('.')
            has_classes = layer.endswith(CLASS_LAYERS)
            tensor = sources.get(place)
            if tensor is None and name == 'weight' and f'{place}_orig' in sources:
                tensor, u, v = (sources[f'{place}_{part}'] for part in ('orig', 'u', 'v'))
                tensor = tensor / torch.dot(u, tensor.flatten(1) @ v)
            if tensor is None or (has_classes and (class_embeddings == 'random' or name in ('weight_u', 'weight_v'))):
                continue
            if has_classes and class_embeddings == 'mean':
                tensor = tensor.mean(0, keepdim=True).expand(len(ours[key]), *tensor.shape[1:])
            elif has_classes:
                tensor = tensor[_find_rows(class_embeddings, (len(ours[key]), len(tensor)), (classes, loaded_classes))]
            if tensor.shape != ours[key].shape:
                shapes = f'{tuple(tensor.shape)} in the checkpoint and {tuple(ours[key].shape)} in the model'
                remedy = f"set base_channels, channels_cfg, noise_size and the like of model.{network} to the checkpoint's"
                raise ConfigError(f'model.init_from: {network}.{key} is of shape {shapes}; {remedy}')
            fitting[f'{network}.{key}'] = tensor
            if has_classes and name == 'weight_orig':  # the singular vectors to which power iterations converge
                u, _, v = torch.linalg.svd(tensor.float(), full_matrices=False)
                fitting.update({f'{network}.{layer}.weight_u': u[:, 0], f'{network}.{layer}.weight_v': v[0]})
    return fitting


def _places(state: State, from_end: bool) -> dict[str, str]:
    """Returns a network's keys with names in which blocks, and the attention after them, are counted from the image."""
    places, number = {}, 0
    for index in sorted({int(key.split('.')[1]) for key in state if re.match(r'conv_blocks\.\d+\.', key)}, reverse=from_end):
        is_attention = f'conv_blocks.{index}.gamma' in state
        number += not is_attention
        places[f'conv_blocks.{index}.'] = f'{"attention" if is_attention else "block"} {number}.'
    return {key: re.sub(r'^conv_blocks\.\d+\.', lambda match: places[match[0]], key) for key in state}


def _find_rows(class_embeddings: str | dict, counts: tuple[int, int], names: tuple[Sequence[str], Sequence[str]]) -> list[int]:
    """Returns the number of the checkpoint's class for each new class."""
    where = 'model.init_from.class_embeddings'
    if not isinstance(class_embeddings, dict) or len(class_embeddings) != counts[0]:
        raise ConfigError(f"{where} must be 'mean', 'random' or a dict with an old class for each of the {counts[0]} new ones")
    rows = {}
    for pair in class_embeddings.items():
        new, old = (known.index(key) if key in known else key for key, known in zip(pair, names))
        for number, count, known, owner in zip((new, old), counts, names, ('data', 'checkpoint')):
            if type(number) is not int or not 0 <= number < count or (owner == 'data' and number in rows):
                among = f'its {count} classes are {", ".join(known) or "without names":.300}'
                raise ConfigError(f'{where}: {number!r} is no class of the {owner}, or named twice; {among}')
        rows[new] = old
    return [rows[label] for label in range(counts[0])]
