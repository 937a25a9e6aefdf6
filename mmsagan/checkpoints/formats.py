"""Recognizing a checkpoint's format by its content, and making any of them ours."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmsagan.checkpoints import openmmlab, studiogan
from mmsagan.checkpoints.architecture import Architecture, Behaviour, describe
from mmsagan.errors import CheckpointError
from mmsagan.models import ProjDiscriminator
from mmsagan.registry import MODELS

OURS = 'MMSAGAN'
OPENMMLAB = 'MMGeneration or MMagic'
STUDIOGAN = 'StudioGAN, since January 2022'
LEGACY_STUDIOGAN = 'StudioGAN, before January 2022'
STUDIOGAN_NETWORKS = {'generator': 'G', 'generator_ema': 'G_ema', 'discriminator': 'D'}


@dataclass
class Conversion:
    """A checkpoint that has become one of ours.

    Args:
        format: What it was.
        state_dict: The networks under our names, for RGB images.
        behaviour: What the networks do that the tensors do not show.
        architecture: The config that the tensors are of.
        training: What the file says of its training, plain values only.
        dropped: Keys that are known and of no use here.
        notes: What was assumed, one sentence each.
    """

    format: str
    state_dict: dict[str, Tensor]
    behaviour: Behaviour
    architecture: Architecture
    training: dict = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def checkpoint(self) -> dict:
        """What is written into a file: tensors, and in ``meta`` where they are from and what config they are of."""
        meta = dict(
            source=self.format,
            training=self.training,
            behaviour=asdict(self.behaviour),
            cfg_options=self.architecture.options(),
            cfg=f"default_scope = 'mmsagan'\nmodel = {self.architecture.model!r}\n",
        )
        if 'iter' in self.training:
            meta['iter'] = self.training['iter']
        return dict(meta=meta, state_dict=self.state_dict)


def tensors_of(content) -> dict[str, Tensor]:
    """The tensors of a loaded file: of its ``state_dict``, or of the file itself.

    Raises:
        CheckpointError: There are none.
    """
    state = content.get('state_dict', content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError('it holds no networks: neither a state_dict nor tensors by name')
    return dict(state)


def format_of(state: Mapping[str, Tensor]) -> str | None:
    """The format of a state dict; None for one that is of none of these projects."""
    if openmmlab.is_openmmlab(state):
        return OPENMMLAB
    if any(key.startswith(('generator.', 'generator_ema.')) for key in state):
        return OURS
    if studiogan.is_generator(state):
        return LEGACY_STUDIOGAN if studiogan.is_legacy(state) else STUDIOGAN
    return STUDIOGAN if studiogan.is_discriminator(state) else None


def from_studiogan(generator, discriminator=None, generator_ema=None) -> Conversion:
    """Converts the loaded content of StudioGAN's files.

    Args:
        generator: Of the generator's file.
        discriminator: Of the discriminator's.
        generator_ema: Of the averaged generator's.

    Raises:
        CheckpointError: A file is of something else.
    """
    contents = dict(generator=generator, discriminator=discriminator, generator_ema=generator_ema)
    contents = {name: content for name, content in contents.items() if content is not None}
    states = {name: tensors_of(content) for name, content in contents.items()}
    state_dict = {}
    for name, state in states.items():
        looks_right = studiogan.is_discriminator if name == 'discriminator' else studiogan.is_generator
        if not looks_right(state):
            raise CheckpointError(f"the file given as {name} is not StudioGAN's {STUDIOGAN_NETWORKS[name]} of a SAGAN or SNGAN")
        translate = studiogan.discriminator_to_ours if name == 'discriminator' else studiogan.generator_to_ours
        state_dict.update({f'{name}.{key}': tensor for key, tensor in translate(state).items()})
    training, dropped = _plain_entries(contents)
    notes = [] if discriminator is not None else ["without StudioGAN's D file, the result has no discriminator"]
    iteration = training.pop('mmsagan', {}).get('iteration')
    if iteration is not None:
        state_dict['iteration'] = torch.tensor(iteration)
    behaviour = Behaviour(inplace=True)
    architecture = describe(state_dict, behaviour, studiogan.downsample_table)
    return _checked(Conversion(format_of(states['generator']), state_dict, behaviour, architecture, training, dropped, notes))


def from_openmmlab(content, path: str | Path = '', channel_order: str | None = None, inplace: bool | None = None) -> Conversion:
    """Converts the loaded content of an MMGeneration or MMagic file.

    Args:
        content: Of the file.
        path: The file, whose name may say what the tensors do not: ``convert-studio-rgb``, ``wReLUinplace`` (that one also in
            the name of its folder).
        channel_order: ``'bgr'`` or ``'rgb'``: which images the networks were trained on; None goes by the name.
        inplace: Whether activations worked in place; None goes by the name.

    Raises:
        CheckpointError: The file is of something else.
    """
    state, dropped = openmmlab.to_ours(tensors_of(content))
    notes = []
    path = Path(path)
    from_studio = 'convert-studio-rgb' in path.name
    if channel_order is None:
        channel_order = 'rgb' if from_studio else 'bgr'
        why = 'the name says convert-studio-rgb' if from_studio else 'assumed, since the name does not say convert-studio-rgb'
        notes.append(f'channel order {channel_order}: {why}')
    if channel_order == 'bgr':
        state = openmmlab.swap_red_and_blue(state)
    if inplace is None:
        inplace, note = _inplace_by_name(f'{path.parent.name}/{path.name}', from_studio)
        notes.append(note)
    behaviour = guess_behaviour(state, inplace)
    training, entries = _plain_entries(dict(model=content))
    meta = training.pop('meta', {})
    iteration = meta.get('iter')
    if iteration is not None:
        state['iteration'] = torch.tensor(int(iteration))
        training['iter'] = int(iteration)
    architecture = describe(state, behaviour, ProjDiscriminator.default_downsample.get)
    return _checked(Conversion(OPENMMLAB, state, behaviour, architecture, training, dropped + entries, notes))


def _inplace_by_name(name: str, from_studio: bool) -> tuple[bool, str]:
    # The published files spell it woReUinplace.
    said = re.search(r'[_/-](w|wo)(?:Inplace)?ReL?U', name)
    if from_studio:
        return True, "activations in place: StudioGAN's are"
    if said:
        return said[1] == 'w', f'activations {"in place" if said[1] == "w" else "not in place"}: the name says so'
    return False, 'activations not in place: assumed, since the name does not say; it matters to the discriminator only'


def guess_behaviour(state: Mapping[str, Tensor], inplace: bool) -> Behaviour:
    """What networks under our names probably do, from traces that their training has left in the tensors."""
    scales = [tensor for key, tensor in state.items() if re.search(r'norm_\d\.weight_embedding\.weight(_orig)?$', key)]
    if scales and not any(key.endswith('.weight_embedding.weight_orig') for key in state) and _is_normalized(state):
        # Only the BigGAN schedule normalizes everything but the class embeddings.
        return Behaviour(inplace, norm_eps=1e-5, sn_eps=1e-8, init='BigGAN')
    # Embeddings that state the scale itself start at 1, those that state its deviation from 1 around 0.
    if scales and torch.stack([scale.float().mean() for scale in scales]).mean() > 0.5:
        return Behaviour(inplace, init='SAGAN')
    return Behaviour(inplace)


def _is_normalized(state: Mapping[str, Tensor]) -> bool:
    return any(key.endswith('noise2feat.weight_orig') for key in state)


def _plain_entries(contents: Mapping[str, Mapping]) -> tuple[dict, list[str]]:
    """What files hold besides tensors: plain values to be kept, and the names of the rest."""
    kept, dropped = {}, []
    for name, content in contents.items():
        if 'state_dict' not in content:
            continue
        for key, value in content.items():
            if key == 'state_dict':
                continue
            value = value.item() if isinstance(value, np.generic) else value
            if _is_plain(value) and key != 'optimizer':
                kept[key] = value
            else:
                dropped.append(f'{key} ({name})')
    return kept, dropped


def _is_plain(value) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def _checked(conversion: Conversion) -> Conversion:
    """The conversion, if its architecture has just these tensors."""
    check_networks(conversion.architecture, conversion.state_dict)
    conversion.notes += conversion.architecture.notes
    return conversion


def check_networks(architecture: Architecture, state: Mapping[str, Tensor]) -> None:
    """Compares tensors with the networks of an architecture.

    Raises:
        CheckpointError: Names the first tensor that is missing, unknown or of another shape.
    """
    with torch.device('meta'):
        model = MODELS.build(architecture.model)
    own = model.state_dict()
    for network in ('generator', 'generator_ema', 'discriminator'):
        source = network.removesuffix('_ema')
        shapes = {key.replace(source, network, 1): tensor.shape for key, tensor in own.items() if key.startswith(f'{source}.')}
        found = {key: tensor.shape for key, tensor in state.items() if key.startswith(f'{network}.')}
        if not found:
            continue
        missing = [key for key in shapes if key not in found]
        unknown = [key for key in found if key not in shapes]
        reshaped = [key for key in shapes if key in found and shapes[key] != found[key]]
        if missing:
            raise CheckpointError(f'it is no whole SAGAN or SNGAN: {missing[0]} is missing')
        if unknown:
            raise CheckpointError(f'it is no SAGAN or SNGAN: {unknown[0]} does not belong to one')
        if reshaped:
            key = reshaped[0]
            raise CheckpointError(
                f'its tensors do not fit together: {key} is {tuple(found[key])} and should be {tuple(shapes[key])}'
            )
