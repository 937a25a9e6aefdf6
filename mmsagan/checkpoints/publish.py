"""Publishing a trained model: weights without optimizers and logs, under a name with their hash."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mmsagan import __version__
from mmsagan.checkpoints.architecture import TRAINING_ONLY, get_network, read_model_config
from mmsagan.checkpoints.convert import load_checkpoint
from mmsagan.checkpoints.io import serialize_checkpoint, split_checkpoint
from mmsagan.errors import CheckpointError
from mmsagan.utils.files import check_writable, write_output


def publish(
    path: str | Path, out: str | Path, weights: str = 'both', with_discriminator: bool = True
) -> tuple[Path, list[str]]:
    """Writes what :func:`strip_checkpoint` leaves of a checkpoint; returns the file, and the keys that were left out.

    Args:
        out: ``.pth`` or ``.safetensors`` file to write; the first 8 digits of its sha256 are inserted before the suffix.
        weights: ``'both'`` keeps the generator and its moving average; ``'ema'`` keeps only the average, as the generator.
    """
    check_writable(out)
    stripped, dropped = strip_checkpoint(load_checkpoint(str(path)), weights, with_discriminator)
    file_format = 'safetensors' if Path(out).suffix == '.safetensors' else 'pth'
    data = serialize_checkpoint(stripped, file_format)
    stem = Path(out).with_suffix('') if Path(out).suffix in ('.pth', '.safetensors') else Path(out)
    file = stem.with_name(f'{stem.name}-{hashlib.sha256(data).hexdigest()[:8]}.{file_format}')
    write_output(file, data)
    return file, dropped


def strip_checkpoint(checkpoint: Mapping, weights: str = 'both', with_discriminator: bool = True) -> tuple[dict, list[str]]:
    """Returns the weights of a checkpoint and the metadata about its model, without times, paths or names of machines.

    Also returns the keys that were left out. The arguments are those of :func:`publish`.
    """
    state, meta = split_checkpoint(checkpoint)
    dropped = [key for key in checkpoint if key not in ('state_dict', 'meta')] if 'state_dict' in checkpoint else []
    dropped += [part[:-1] for part in TRAINING_ONLY if any(key.startswith(part) for key in state)]
    state = {key: tensor for key, tensor in state.items() if not key.startswith(TRAINING_ONLY)}
    if weights == 'ema':
        average = get_network(state, 'generator_ema')
        if not average:
            raise CheckpointError('the checkpoint has no moving average of the generator; publish it with --weights both')
        state = {key: tensor for key, tensor in state.items() if not key.startswith(('generator.', 'generator_ema.'))}
        state.update({f'generator.{key}': tensor for key, tensor in average.items()})
        dropped.append('generator')
    if not with_discriminator:
        state = {key: tensor for key, tensor in state.items() if not key.startswith('discriminator.')}
        dropped.append('discriminator')
    published = {key: meta[key] for key in ('iter', 'source', 'training', 'cfg_options') if key in meta}
    model = read_model_config(meta.get('cfg'))
    model.pop('init_from', None)  # which names a file
    if model:
        published['cfg'] = f"default_scope = 'mmsagan'\nmodel = {model!r}\n"
    return dict(meta=dict(published, mmsagan_version=__version__), state_dict=state), dropped
