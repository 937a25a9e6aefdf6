"""Converting checkpoint files: from other projects to ours, and from ours to StudioGAN's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from mmsagan import __version__
from mmsagan.checkpoints import formats, studiogan
from mmsagan.checkpoints.architecture import describe, part_of
from mmsagan.checkpoints.behaviour import Behaviour, downsample_table_of
from mmsagan.checkpoints.content import check_tensors, iteration_of, meta_of, tensors_of
from mmsagan.checkpoints.loading import load_checkpoint_file, load_from_local, studiogan_sibling
from mmsagan.checkpoints.saving import save_checkpoint_file
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.utils.files import check_writable

# What StudioGAN's loader asks of a discriminator's file, and the values of a run that has not begun.
_STUDIOGAN_TRAINING = dict(
    seed=0,
    run_name='mmsagan',
    step=0,
    epoch=0,
    topk=None,
    aa_p=None,
    best_step=0,
    best_fid=None,
    best_fid_ckpt='',
    lecam_emas=None,
)


def convert_checkpoint(
    path: str | Path,
    out: str | Path,
    discriminator: str | Path | None = None,
    generator_ema: str | Path | None = None,
    channel_order: str | None = None,
    inplace: bool | None = None,
) -> formats.Conversion:
    """Converts a file of StudioGAN, MMGeneration or MMagic, recognized by its content, to one of ours.

    Args:
        path: The file; of StudioGAN the generator's.
        out: The file to be written.
        discriminator: Of StudioGAN only: the discriminator's file. None takes the one beside the generator's, if there is one.
        generator_ema: Likewise, of the averaged generator.
        channel_order: Of the other two only, see :func:`~mmsagan.checkpoints.formats.from_openmmlab`.
        inplace: Likewise.

    Returns:
        What was found and written.

    Raises:
        CheckpointError: A file is missing, damaged, refused, of something else, or ours already. Nothing is written then.
        ConfigError: What was given does not go with the file's format.
    """
    path = Path(path).expanduser()
    content = load_checkpoint_file(path)
    with _told_of(path):
        format = formats.format_of(tensors_of(content))
    if format == formats.OPENMMLAB:
        found = f'{path} is of {format}, which have all networks in one file'
        _give_no(found, {'discriminator': discriminator, 'averaged generator': generator_ema})
        return convert_openmmlab(path, out, channel_order, inplace)
    if format in (formats.STUDIOGAN, formats.LEGACY_STUDIOGAN):
        found = f'{path} is of {format}: its images are RGB, and its activations work in place'
        _give_no(found, {'channel order': channel_order, 'in-place ReLU': inplace})
        siblings = [studiogan_sibling(path, network) for network in ('D', 'G_ema')]
        return convert_studiogan(path, out, discriminator or siblings[0], generator_ema or siblings[1])
    if format == formats.OURS:
        raise CheckpointError(f'{path} is a checkpoint of MMSAGAN already, nothing is to be converted')
    raise CheckpointError(f'{path} is no SAGAN or SNGAN of StudioGAN, MMGeneration or MMagic')


def _give_no(found: str, arguments: Mapping[str, object]) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigError(f'{found}; give no {" and no ".join(given)}')


def convert_studiogan(
    generator: str | Path, out: str | Path, discriminator: str | Path | None = None, generator_ema: str | Path | None = None
) -> formats.Conversion:
    """Converts StudioGAN's files of one run to one file of ours.

    Args:
        generator: The generator's file, ``model=G-….pth``, of either generation of the format.
        out: The file to be written.
        discriminator: The discriminator's, ``model=D-….pth``.
        generator_ema: The averaged generator's, ``model=G_ema-….pth``.

    Returns:
        What was found and written.

    Raises:
        CheckpointError: A file is missing, damaged, refused, or of something else. Nothing is written then.
    """
    check_writable(out)
    paths = dict(generator=generator, discriminator=discriminator, generator_ema=generator_ema)
    contents = {name: load_checkpoint_file(path) for name, path in paths.items() if path is not None}
    with _told_of(*(paths[name] for name in contents)):
        conversion = formats.from_studiogan(**contents)
    return _write(conversion, out)


def convert_openmmlab(
    path: str | Path, out: str | Path, channel_order: str | None = None, inplace: bool | None = None
) -> formats.Conversion:
    """Converts a file of MMGeneration or MMagic to one of ours, for RGB images.

    Args:
        path: The file.
        out: The file to be written.
        channel_order: See :func:`~mmsagan.checkpoints.formats.from_openmmlab`.
        inplace: Likewise.

    Returns:
        What was found and written.

    Raises:
        CheckpointError: The file is missing, damaged, refused, or of something else. Nothing is written then.
    """
    check_writable(out)
    content = load_checkpoint_file(path)
    with _told_of(path):
        if formats.format_of(tensors_of(content)) != formats.OPENMMLAB:
            raise CheckpointError('it is not a SAGAN or SNGAN of MMGeneration or MMagic')
        conversion = formats.from_openmmlab(content, path, channel_order, inplace)
    return _write(conversion, out)


@contextmanager
def _told_of(*paths: str | Path | None) -> Iterator[None]:
    """Within it, errors are told with the files that they are about."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f'{", ".join(map(str, paths))}: {error}') from error


def _write(conversion: formats.Conversion, out: str | Path) -> formats.Conversion:
    checkpoint = conversion.checkpoint()
    checkpoint['meta']['mmsagan_version'] = __version__
    save_checkpoint_file(checkpoint, out)
    return conversion


def export_studiogan(
    path: str | Path, out_dir: str | Path, which: str = 'best', dist_step: int = 1
) -> tuple[list[Path], dict, list[str]]:
    """Writes a checkpoint as files of StudioGAN's current format, to be sampled, evaluated or fine-tuned there.

    Args:
        path: A checkpoint of ours, or of another format that can be read.
        out_dir: The folder for ``model=G-….pth``, ``model=D-….pth`` and, with a moving average, ``model=G_ema-….pth``.
        which: ``'best'`` or ``'current'``, a part of the files' names.
        dist_step: Updates of D for one of G in the training; StudioGAN counts those of G.

    Returns:
        The files, the settings that StudioGAN's config needs, and what the user should know.

    Raises:
        CheckpointError: The checkpoint cannot be read, or StudioGAN has no such network. Nothing is written then.
    """
    checkpoint = load_from_local(str(path))
    state = tensors_of(checkpoint)
    with _told_of(path):
        behaviour, notes = _behaviour_of(checkpoint, state)
        check_tensors(state)
        architecture = describe(state, behaviour, downsample_table_of(meta_of(checkpoint)))
        formats.check_networks(architecture, state)
        settings = studiogan.settings_of(architecture)
    iteration = iteration_of(state['iteration'].item()) if 'iteration' in state and state['iteration'].numel() == 1 else None
    step = (iteration or 0) // dist_step
    kept = meta_of(checkpoint).get('training')
    training = dict(_STUDIOGAN_TRAINING, step=step, best_step=step)
    if isinstance(kept, Mapping):
        training.update({key: kept[key] for key in training if key in kept})
    if iteration:
        training['mmsagan'] = dict(iteration=iteration)  # StudioGAN passes over it
    files = {}
    for network, label in formats.STUDIOGAN_NETWORKS.items():
        tensors = part_of(state, network)
        if tensors:
            table = studiogan.DISCRIMINATOR if network == 'discriminator' else studiogan.GENERATOR
            content: dict[str, object] = dict(state_dict=table.to_foreign(tensors), optimizer={})
            files[label] = dict(content, **training) if network == 'discriminator' else content
    paths = [Path(out_dir, f'model={label}-{which}-weights-step={training["step"]}.pth') for label in files]
    for file in paths:
        check_writable(file)
    for file, content in zip(paths, files.values()):
        save_checkpoint_file(content, file)
    return paths, settings, notes


def _behaviour_of(checkpoint: Mapping, state: Mapping[str, Tensor]) -> tuple[Behaviour, list[str]]:
    """What a checkpoint's networks do, as far as it is known, and what is to be said about it for StudioGAN."""
    behaviour, notes = Behaviour.from_meta(meta_of(checkpoint)), []
    if behaviour is None:
        behaviour, note = formats.guess_behaviour(state, inplace=True)
        assumed = f'batch norms with an epsilon of {behaviour.norm_eps:g}, and activations in place'
        notes = [f'the checkpoint does not say it, so this is assumed: {assumed}', *([note] if note else [])]
    elif not behaviour.inplace:
        notes = ["StudioGAN's activations work in place, this model's do not: its logits will differ there"]
    return behaviour, notes
