"""Recognizing a checkpoint's format by its content, and making any of them ours."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mmsagan.checkpoints import openmmlab, studiogan
from mmsagan.checkpoints.architecture import Architecture, describe
from mmsagan.checkpoints.behaviour import Behaviour
from mmsagan.checkpoints.content import NETWORKS, check_tensors, iteration_of, meta_of, not_finite, plain_entries, tensors_of
from mmsagan.checkpoints.fitting import compare
from mmsagan.checkpoints.rules import without_prefix
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.models import ProjDiscriminator
from mmsagan.registry import MODELS

OURS = 'MMSAGAN'
OPENMMLAB = 'MMGeneration or MMagic'
STUDIOGAN = 'StudioGAN, since January 2022'
LEGACY_STUDIOGAN = 'StudioGAN, before January 2022'
# How StudioGAN's files are named after the networks.
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
        CheckpointError: A file is of something else, or they are of different networks.
    """
    contents = dict(generator=generator, discriminator=discriminator, generator_ema=generator_ema)
    contents = {name: content for name, content in contents.items() if content is not None}
    states = {name: tensors_of(content) for name, content in contents.items()}
    state_dict = {}
    for name, state in states.items():
        _check_network(name, state)
        check_tensors(state)
        try:
            ours, _ = studiogan.table_of(name, state).to_ours(without_prefix(state, 'module.'))
        except CheckpointError as error:
            raise CheckpointError(f'{name}: {error}') from error
        state_dict.update({f'{name}.{key}': tensor for key, tensor in ours.items()})
    training, dropped = plain_entries(contents)
    notes = [] if discriminator is not None else ["without StudioGAN's D file, the result has no discriminator"]
    own_notes = training.pop('mmsagan', None)
    iteration = iteration_of(own_notes.get('iteration')) if isinstance(own_notes, dict) else None
    state_dict['iteration'] = torch.tensor(iteration or 0)
    behaviour = Behaviour(inplace=True)
    architecture = describe(state_dict, behaviour, studiogan.downsample_table)
    check_networks(architecture, state_dict, lambda name, key: studiogan.table_of(name, states[name]).foreign_name(key))
    if discriminator is not None:
        _check_discriminator_size(architecture)
    format = LEGACY_STUDIOGAN if studiogan.is_legacy(states['generator']) else STUDIOGAN
    return _noted(Conversion(format, state_dict, behaviour, architecture, training, dropped, notes))


def _check_network(name: str, state: Mapping[str, Tensor]) -> None:
    is_one, is_other = studiogan.is_generator(state), studiogan.is_discriminator(state)
    if name == 'discriminator':
        is_one, is_other = is_other, is_one
    if not is_one:
        what = f"the file given as {name} is not StudioGAN's {STUDIOGAN_NETWORKS[name]} of a SAGAN or SNGAN"
        format = format_of(state)
        if is_other:
            what += f', but its {"G" if name == "discriminator" else "D"}'
        elif format in (OURS, OPENMMLAB):
            what += f', but of {format}'
        raise CheckpointError(what)


def _check_discriminator_size(architecture: Architecture) -> None:
    """StudioGAN's D of another image size may work on G's images all the same, and judges them by what they are not."""
    scale, found = architecture.generator['output_scale'], architecture.discriminator['downsample_cfg']
    wanted = studiogan.downsample_table(scale)
    if wanted is not None and found != wanted:
        raise CheckpointError(
            f"the discriminator is not one for the generator's images of {scale} pixels: StudioGAN's has {len(wanted)} blocks "
            f'after the first, which halve the size by {wanted}, and this one {len(found)} by {found}'
        )


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
    path, foreign = Path(path), tensors_of(content)
    check_tensors(foreign)
    state, dropped = openmmlab.to_ours(foreign)
    notes = []
    if not any(key.startswith('generator.') for key in state):
        state = {key.replace('generator_ema.', 'generator.', 1): tensor for key, tensor in state.items()}
        notes.append('the file has only the moving average of the generator: it is taken as the generator')
    from_studio = 'convert-studio-rgb' in path.name
    if channel_order is None:
        channel_order = 'rgb' if from_studio else 'bgr'
        why = 'the name says convert-studio-rgb' if from_studio else 'assumed, since the name does not say convert-studio-rgb'
        notes.append(f'channel order {channel_order}: {why}')
    if inplace is None:
        inplace, note = _inplace_by_name(f'{path.parent.name}/{path.name}', from_studio)
        notes.append(note)
    behaviour, guess = guess_behaviour(state, inplace)
    notes += [guess] if guess else []
    training, entries = plain_entries(dict(model=content))
    training.pop('meta', None)
    iteration = iteration_of(meta_of(content).get('iter'))
    if iteration is not None:
        training['iter'] = iteration
    state['iteration'] = torch.tensor(iteration or 0)
    architecture = describe(state, behaviour, ProjDiscriminator.default_downsample.get)
    check_networks(architecture, state, lambda name, key: f'{name}.{openmmlab.table_of(name, foreign).foreign_name(key)}')
    if channel_order == 'bgr':
        state = openmmlab.swap_red_and_blue(state)
    return _noted(Conversion(OPENMMLAB, state, behaviour, architecture, training, dropped + entries, notes))


def _inplace_by_name(name: str, from_studio: bool) -> tuple[bool, str]:
    # The published files spell it woReUinplace.
    said = re.search(r'[_/-](w|wo)(?:Inplace)?ReL?U', name)
    if from_studio:
        return True, "activations in place: StudioGAN's are"
    if said:
        return said[1] == 'w', f'activations {"in place" if said[1] == "w" else "not in place"}: the name says so'
    return False, 'activations not in place: assumed, since the name does not say; it matters to the discriminator only'


def guess_behaviour(state: Mapping[str, Tensor], inplace: bool) -> tuple[Behaviour, str | None]:
    """What networks under our names probably do, from traces that their training has left in the tensors; and a note."""
    scales = [tensor for key, tensor in state.items() if re.search(r'norm_\d\.weight_embedding\.weight(_orig)?$', key)]
    normalizes_embeddings = any(key.endswith('.weight_embedding.weight_orig') for key in state)
    normalizes = any(key.endswith('noise2feat.weight_orig') for key in state)
    # Embeddings that state the scale itself start at 1, those that state its deviation from 1 around 0.
    if scales and torch.stack([scale.float().mean() for scale in scales]).mean() > 0.5:
        return Behaviour(inplace, init='SAGAN'), 'init scheme SAGAN: the class embeddings are near 1, so 1 is not added to them'
    if scales and normalizes and not normalizes_embeddings:
        note = 'the BigGAN schedule: its class embeddings alone have no spectral norm; its epsilons are 1e-5 and 1e-8'
        return Behaviour(inplace, norm_eps=1e-5, sn_eps=1e-8, init='BigGAN'), note
    return Behaviour(inplace), None


def _noted(conversion: Conversion) -> Conversion:
    """The conversion with notes on what its tensors leave open."""
    conversion.notes += conversion.architecture.notes
    broken = not_finite(conversion.state_dict)
    if broken:
        conversion.notes.append(f'{broken} holds NaN or Inf: the training has diverged')
    return conversion


def check_networks(
    architecture: Architecture, state: Mapping[str, Tensor], foreign_name: Callable[[str, str], str] | None = None
) -> None:
    """Compares tensors with the networks of an architecture.

    Args:
        architecture: Which networks.
        state: Tensors under our names.
        foreign_name: Gives the other project's name of a network's tensor, for messages.

    Raises:
        CheckpointError: There are no such networks; or names the first tensor that is missing, unknown or of another shape.
    """
    try:
        with torch.device('meta'):
            own = MODELS.build(architecture.model).state_dict()
    except ConfigError as error:  # of sizes that the tensors have, and no network can have
        raise CheckpointError(f'it is no whole SAGAN or SNGAN: {error}') from error
    for network in NETWORKS:
        source = network.removesuffix('_ema')
        wanted = {key.replace(source, network, 1): tensor for key, tensor in own.items() if key.startswith(f'{source}.')}
        found = {key: tensor for key, tensor in state.items() if key.startswith(f'{network}.')}
        if not found:
            continue
        missing, unknown, reshaped = compare(wanted, found)
        if not (missing or unknown or reshaped):
            continue
        key = [*missing, *unknown, *reshaped][0]
        name = foreign_name(network, key.removeprefix(f'{network}.')) if foreign_name else key
        if missing:
            what = 'is missing'
        elif unknown:
            what = 'does not belong to one'
        else:
            what = f'does not fit: here, it is {tuple(found[key].shape)} and should be {tuple(wanted[key].shape)}'
        raise CheckpointError(f'it is no whole SAGAN or SNGAN: {name} {what}')
