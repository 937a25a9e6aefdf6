"""Making of a training's checkpoint what its users need."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from mmsagan import __version__
from mmsagan.checkpoints.architecture import part_of
from mmsagan.checkpoints.behaviour import model_text
from mmsagan.checkpoints.content import meta_of, tensors_of
from mmsagan.checkpoints.loading import load_from_local
from mmsagan.checkpoints.saving import checkpoint_bytes, format_by_name
from mmsagan.errors import CheckpointError
from mmsagan.utils.files import check_writable, write_output


def publish(
    path: str | Path, out: str | Path, weights: str = 'both', with_discriminator: bool = True, file_format: str | None = None
) -> tuple[Path, list[str]]:
    """Writes what users of a trained model need: its weights, without optimizers and logs, under a name with its hash.

    Args:
        path: A checkpoint of ours, or of another format that can be read.
        out: The file to be written; the first 8 digits of its sha256 are put before the ending.
        weights: ``'both'`` keeps the generator and its moving average; ``'ema'`` keeps the average alone, as the generator.
        with_discriminator: Whether D is kept, which fine-tuning needs.
        file_format: ``'pth'`` or ``'safetensors'``; None goes by the ending of ``out``.

    Returns:
        The file, and the keys of the checkpoint that it lacks.

    Raises:
        CheckpointError: The checkpoint cannot be read, or has no moving average to be kept.
    """
    check_writable(out)
    checkpoint = load_from_local(str(path))
    state = dict(tensors_of(checkpoint))
    dropped = [key for key in checkpoint if key not in ('state_dict', 'meta')] if 'state_dict' in checkpoint else []
    if weights == 'ema':
        average = part_of(state, 'generator_ema')
        if not average:
            raise CheckpointError(f'{path} has no moving average of the generator; publish it with --weights both')
        state = {key: tensor for key, tensor in state.items() if not key.startswith(('generator.', 'generator_ema.'))}
        state.update({f'generator.{key}': tensor for key, tensor in average.items()})
        dropped.append('generator')
    if not with_discriminator:
        state = {key: tensor for key, tensor in state.items() if not key.startswith('discriminator.')}
        dropped.append('discriminator')
    meta = _published_meta(meta_of(checkpoint))
    file_format = file_format or format_by_name(out)
    data = checkpoint_bytes(dict(meta=meta, state_dict=state), file_format)
    stem = Path(out).with_suffix('') if Path(out).suffix in ('.pth', '.safetensors') else Path(out)
    published = stem.with_name(f'{stem.name}-{hashlib.sha256(data).hexdigest()[:8]}.{file_format}')
    write_output(published, data)
    return published, dropped


def _published_meta(meta: Mapping) -> dict:
    """Of a run's notes, those about the model: no times, paths or names of machines."""
    kept = {key: meta[key] for key in ('iter', 'source', 'training', 'behaviour', 'cfg_options') if key in meta}
    model = model_text(meta.get('cfg'))
    return dict(kept, mmsagan_version=__version__, **(dict(cfg=model) if model else {}))
