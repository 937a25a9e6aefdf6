"""Checkpoints of other projects: recognized by their content and converted to ours, and written for StudioGAN."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmsagan import __version__
from mmsagan.checkpoints import openmmlab, studiogan
from mmsagan.checkpoints.architecture import (
    ModelSettings,
    get_cfg_options,
    get_downsample_table,
    get_network,
    infer_architecture,
)
from mmsagan.checkpoints.io import load_checkpoint_file, save_checkpoint_file, split_checkpoint
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.models import ProjDiscriminator
from mmsagan.utils.download import HUB, cached_file, hub_file
from mmsagan.utils.files import check_writable

OPENMMLAB = 'MMGeneration or MMagic'
STUDIOGAN = 'StudioGAN'
STUDIOGAN_NETWORKS = {'generator': 'G', 'generator_ema': 'G_ema', 'discriminator': 'D'}  # their names in its files
# The arguments of convert_checkpoint that go with a format.
_OPTIONS = {OPENMMLAB: ('channel_order', 'inplace'), STUDIOGAN: ('discriminator', 'generator_ema')}


@dataclass
class Conversion:
    """A checkpoint of another project, converted to ours."""

    format: str
    state_dict: dict[str, Tensor]  # under our names, for RGB images
    settings: ModelSettings  # what the tensors do not show
    model: dict  # config of the model
    training: dict  # numbers and strings of the file's training state
    dropped: list[str]  # keys that have no counterpart here
    notes: list[str]  # what was assumed, one sentence each

    def checkpoint(self) -> dict:
        """Returns the content of a checkpoint of ours, whose ``meta`` says where it is from and which config it needs."""
        meta = dict(
            source=self.format,
            training=self.training,
            cfg_options=get_cfg_options(self.model),
            cfg=f"default_scope = 'mmsagan'\nmodel = {self.model!r}\n",
            mmsagan_version=__version__,
        )
        if 'iter' in self.training:
            meta['iter'] = self.training['iter']
        return dict(meta=meta, state_dict=self.state_dict)


def from_studiogan(generator, discriminator=None, generator_ema=None) -> Conversion:
    """Converts the loaded contents of StudioGAN's files. Raises a CheckpointError if they do not belong together."""
    given = dict(generator=generator, discriminator=discriminator, generator_ema=generator_ema)
    contents = {name: content for name, content in given.items() if content is not None}
    states = {name: split_checkpoint(content)[0] for name, content in contents.items()}
    for name, state in states.items():
        if studiogan.find_network(state) != name.removesuffix('_ema'):
            raise CheckpointError(f"the file given as {name} is not StudioGAN's {STUDIOGAN_NETWORKS[name]} of a SAGAN or SNGAN")
    kept = discriminator.get('mmsagan') if discriminator is not None else None
    iteration = kept.get('iteration') if isinstance(kept, Mapping) else None
    conversion = _convert(STUDIOGAN, states, contents, True, iteration)
    # A discriminator for another image size may run on G's images all the same.
    downsample = studiogan.get_downsample_cfg(conversion.model['generator']['output_scale'])
    if discriminator is None:
        conversion.notes.append("without StudioGAN's D file, the result has no discriminator")
    elif downsample not in (None, conversion.model['discriminator']['downsample_cfg']):
        raise CheckpointError("the discriminator is not one for the generator's images")
    return conversion


def from_openmmlab(content, path: str | Path = '', channel_order: str | None = None, inplace: bool | None = None) -> Conversion:
    """Converts the loaded content of an MMGeneration or MMagic file; raises a CheckpointError if it is of something else.

    The name in ``path`` may contain ``convert-studio-rgb`` or, as may its folder's, ``wReLUinplace``.
    """
    path, notes = Path(path), []
    foreign, meta = split_checkpoint(content)
    # Mean and standard deviation are settings here, and the moving average follows the iterations.
    dropped = [key for key in foreign if key.startswith(('data_preprocessor.', 'generator_ema.steps'))]
    foreign = {key: tensor for key, tensor in foreign.items() if key not in dropped}
    states = {name: get_network(foreign, name) for name in STUDIOGAN_NETWORKS}
    unknown = [key for key in foreign if key.partition('.')[0] not in states]
    if unknown:
        raise CheckpointError(f'the key {unknown[0][:200]!r} is not of a network that can be converted (SAGAN or SNGAN)')
    if not states['generator']:
        states = dict(generator=states['generator_ema'], discriminator=states['discriminator'])
        notes.append('the file has only the moving average of the generator, which becomes the generator')
    is_from_studiogan = 'convert-studio-rgb' in path.name
    if channel_order is None:
        channel_order = 'rgb' if is_from_studiogan else 'bgr'
        notes.append(f'channel order {channel_order}, since the name {"says" if is_from_studiogan else "does not say"} rgb')
    if inplace is None:
        # The published files spell it woReUinplace.
        named = re.search(r'[_/-](w|wo)(?:Inplace)?ReL?U', f'{path.parent.name}/{path.name}')
        inplace = is_from_studiogan or (named is not None and named[1] == 'w')
        notes.append(f'the discriminator has activations {"in place" if inplace else "not in place"}, by the name of the file')
    conversion = _convert(OPENMMLAB, states, dict(model=content), inplace, meta.get('iter'))
    conversion.dropped = dropped + conversion.dropped
    conversion.notes = notes + conversion.notes
    if channel_order == 'bgr':
        conversion.state_dict = openmmlab.swap_red_and_blue(conversion.state_dict)
    return conversion


def guess_settings(state: Mapping[str, Tensor], inplace: bool) -> ModelSettings:
    """Guesses the settings of networks under our names from their tensors' values."""
    scales = [tensor for key, tensor in state.items() if re.search(r'norm_\d\.weight_embedding\.weight(_orig)?$', key)]
    # Embeddings of the scale itself start at 1, those of its deviation from 1 around 0.
    if scales and torch.stack([scale.float().mean() for scale in scales]).mean() > 0.5:
        return ModelSettings(inplace, init='SAGAN')
    # In BigGAN's schedule, only the class embeddings have no spectral norm.
    normalized = [key for key in state if key.endswith(('noise2feat.weight_orig', '.weight_embedding.weight_orig'))]
    if scales and normalized and all(key.endswith('noise2feat.weight_orig') for key in normalized):
        return ModelSettings(inplace, norm_eps=1e-5, sn_eps=1e-8, init='BigGAN')
    return ModelSettings(inplace)


def _convert(
    file_format: str, states: Mapping[str, dict[str, Tensor]], contents: Mapping[str, Mapping], inplace: bool, iteration
) -> Conversion:
    """Converts the networks of a file, or of several, from the tensors of each and the contents of the files."""
    is_openmmlab = file_format == OPENMMLAB
    state, dropped, training = {}, [], {}
    for name, tensors in states.items():
        table = studiogan.DISCRIMINATOR if name == 'discriminator' else studiogan.GENERATOR
        translated = openmmlab.rename(tensors) if is_openmmlab else table.translate(tensors, 'ours')
        state.update({f'{name}.{key}': tensor for key, tensor in translated.items()})
    for name, content in contents.items():
        for key, value in content.items() if 'state_dict' in content else ():
            value = value.item() if isinstance(value, np.generic) else value
            if value is None or isinstance(value, (bool, int, float, str)):
                training[str(key)] = value
            elif key not in ('state_dict', 'meta', 'mmsagan'):
                dropped.append(f'{key} ({name})')
    state['iteration'] = torch.tensor(0)
    if type(iteration) is int and 0 <= iteration < 2**63:
        state['iteration'].fill_(iteration)
        training.update(dict(iter=iteration) if is_openmmlab else {})
    settings = guess_settings(state, inplace) if is_openmmlab else ModelSettings(inplace)
    downsample_table = ProjDiscriminator.default_downsample.get if is_openmmlab else studiogan.get_downsample_cfg
    model = infer_architecture(state, settings, downsample_table)
    notes = [] if settings == ModelSettings(inplace) else [f'by the class embeddings, the settings are {settings}']
    return Conversion(file_format, state, settings, model, training, dropped, notes)


def read_checkpoint(path: Path, map_location='cpu', **options) -> tuple[dict, Conversion | None]:
    """Returns a file's content and, if it is another project's, its conversion with options of :func:`convert_checkpoint`."""
    content = load_checkpoint_file(path, map_location)
    try:
        state, _ = split_checkpoint(content)
        if any(re.match(r'\w+\.(conv_blocks\.\d+|from_rgb)\.(conv_1|theta)\.conv\.weight', key) for key in state):
            file_format = OPENMMLAB
        elif studiogan.find_network(state):
            file_format = STUDIOGAN
        else:
            return (dict(content, state_dict=state) if 'state_dict' in content else state), None
        options = {key: value for key, value in options.items() if value is not None}
        refused = [key for key in options if key not in _OPTIONS[file_format]]
        if refused:
            raise ConfigError(f'{path} is of {file_format}, which needs no {" and no ".join(refused)}')
        if file_format == OPENMMLAB:
            return content, from_openmmlab(content, path, **options)
        for network in _OPTIONS[STUDIOGAN]:
            sibling = path.with_name(path.name.replace('model=G-', f'model={STUDIOGAN_NETWORKS[network]}-', 1))
            if sibling != path and sibling.is_file():
                options.setdefault(network, sibling)
        return content, from_studiogan(content, **{name: load_checkpoint_file(file) for name, file in options.items()})
    except CheckpointError as error:
        raise CheckpointError(f'checkpoint {path}: {error}') from error


def convert_checkpoint(
    path: str | Path,
    out: str | Path,
    discriminator: str | Path | None = None,
    generator_ema: str | Path | None = None,
    channel_order: str | None = None,
    inplace: bool | None = None,
) -> Conversion:
    """Converts a file of StudioGAN, MMGeneration or MMagic, recognized by its content, to one of ours.

    Args:
        path: The file; of StudioGAN the generator's.
        discriminator, generator_ema: StudioGAN's other files. Default to those beside the generator's, if there are any.
        channel_order, inplace: Of MMGeneration and MMagic: that of the training images, ``'bgr'`` or ``'rgb'``, and whether
            activations work in place. Default to what the name of the file says.
    """
    check_writable(out)
    options = dict(discriminator=discriminator, generator_ema=generator_ema, channel_order=channel_order, inplace=inplace)
    _, conversion = read_checkpoint(Path(path).expanduser(), **options)
    if conversion is None:
        raise CheckpointError(f'{path} is no file of StudioGAN, MMGeneration or MMagic; those of MMSAGAN need no change')
    save_checkpoint_file(conversion.checkpoint(), out)
    return conversion


def export_studiogan(
    path: str | Path, out_dir: str | Path, which: str = 'best', dist_step: int = 1
) -> tuple[list[Path], dict, list[str]]:
    """Writes a checkpoint as files of StudioGAN's current format, to be sampled, evaluated or fine-tuned there.

    Returns the files, the settings that StudioGAN's config needs, and notes. No such network there is a CheckpointError.

    Args:
        out_dir: Folder for ``model=G-….pth``, ``model=D-….pth`` and, with a moving average, ``model=G_ema-….pth``.
        which: ``'best'`` or ``'current'``, a part of the file names.
        dist_step: Updates of D per update of G in the training; StudioGAN counts those of G.
    """
    state, meta = split_checkpoint(load_checkpoint(str(path)))
    settings, notes = ModelSettings.from_meta(meta), []
    if settings is None:
        settings = guess_settings(state, inplace=True)
        notes.append(f'assumed, since the checkpoint does not say: activations in place, and norm_eps={settings.norm_eps:g}')
    elif not settings.inplace:
        notes.append("StudioGAN's activations work in place, this model's do not: its logits will differ there")
    try:
        config = studiogan.make_config(infer_architecture(state, settings, get_downsample_table(meta)))
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    iteration = max(int(state['iteration'].long()), 0) if 'iteration' in state else 0
    step = iteration // dist_step
    # The training state that StudioGAN's loader expects in a discriminator's file.
    training: dict = dict(seed=0, epoch=0, topk=None, aa_p=None, best_fid=None, best_fid_ckpt='', lecam_emas=None)
    training.update(run_name='mmsagan', step=step, best_step=step)
    kept = meta.get('training')
    if isinstance(kept, Mapping):
        training.update({key: kept[key] for key in training if key in kept})
    if type(training['step']) is not int:  # a path would become a part of file names
        training['step'] = step
    if iteration:
        training['mmsagan'] = dict(iteration=iteration)  # ignored by StudioGAN
    files = {}
    for network, label in STUDIOGAN_NETWORKS.items():
        tensors = get_network(state, network)
        if tensors:
            table = studiogan.DISCRIMINATOR if network == 'discriminator' else studiogan.GENERATOR
            content: dict[str, object] = dict(state_dict=table.translate(tensors, 'foreign'), optimizer={})
            file = Path(out_dir, f'model={label}-{which}-weights-step={training["step"]}.pth')
            files[file] = dict(content, **training) if network == 'discriminator' else content
            check_writable(file)
    for file, content in files.items():
        save_checkpoint_file(content, file)
    return list(files), config, notes


def load_checkpoint(filename: str, map_location=None) -> dict:
    """Loads a file, URL or repository (``hf://``) for MMEngine: a checkpoint under our names, whichever project wrote it.

    If the name of a download ends in the first digits of its sha256, as in ``sagan_20210730-d50568a4.pth``, they are compared.
    """
    path = Path(filename).expanduser()
    if filename.startswith(HUB):
        path = hub_file(filename, 'model.safetensors')
    elif '://' in filename:  # MMEngine's loaders would execute pickled code
        # Digits alone are a date.
        found = re.search(r'-(?!\d+\.)([0-9a-f]{8,64})\.(pth|pt|safetensors)$', re.split('[?#]', filename)[0])
        path = Path(cached_file(filename, found and found[1], folder=Path(torch.hub.get_dir(), 'checkpoints')))
    content, conversion = read_checkpoint(path, map_location)
    if conversion is not None:
        notes = [*conversion.notes, *(f'{key} is dropped' for key in conversion.dropped)] or ['nothing is left out']
        print_log(f'{filename} is of {conversion.format} and was converted: {"; ".join(notes)}', 'current')
        return conversion.checkpoint()
    if isinstance(content.get('meta'), dict):
        # MMEngine's Runner.resume executes meta['config'] as Python, although MMEngine itself writes meta['cfg'].
        content['meta'].pop('config', None)
    return content


def register_checkpoint_loaders() -> None:
    """Makes MMEngine's ``Runner.resume``, ``Runner.load_checkpoint`` and ``CheckpointLoader`` use :func:`load_checkpoint`."""
    for prefix in list(CheckpointLoader._schemes):
        CheckpointLoader.register_scheme(prefixes=prefix, loader=load_checkpoint, force=True)
