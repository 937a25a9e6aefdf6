"""Loading checkpoint files without ever running code from them.

``torch.load`` of torch >= 2.6 refuses pickled code, and with it MMEngine's own checkpoints, whose log buffers are objects.
Upstream MMEngine therefore cannot resume; the kept-up fork falls back to running whatever the file holds. Here the few harmless
types are allowed by name, and everything else is refused. Registering this loader with MMEngine's ``CheckpointLoader`` makes it
the one that ``Runner.resume`` and ``Runner.load_checkpoint`` use.
"""

import pickle
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmsagan.errors import CheckpointError, DownloadError
from mmsagan.utils.download import cached_file
from mmsagan.utils.pickles import NUMPY_GLOBALS


def _history_buffer_method(owner, name: str):
    """Stands in for ``getattr`` in a checkpoint: gives the statistics methods that a HistoryBuffer's pickle names."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed in a checkpoint')
    return getattr(HistoryBuffer, name)


def _safe_globals() -> list:
    allowed = [(value, '.'.join(name)) for name, value in NUMPY_GLOBALS.items()]
    allowed += [HistoryBuffer, slice, (_history_buffer_method, 'builtins.getattr')]
    allowed += [type(np.dtype(name)) for name in ('bool', 'uint8', 'int32', 'int64', 'uint32', 'float32', 'float64')]
    return allowed


def load_checkpoint_file(path: str | Path, map_location='cpu') -> dict:
    """Reads a checkpoint: tensors, plain values, numpy arrays and MMEngine's log buffers, nothing else.

    Args:
        path: The file.
        map_location: Where tensors go, as in ``torch.load``.

    Returns:
        What the file holds.

    Raises:
        CheckpointError: The file is missing, is no checkpoint, is damaged, or holds code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path} does not exist')
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'checkpoint {path} is refused, since it holds more than data or is no checkpoint: {_reason(error)}'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise CheckpointError(f'checkpoint {path} is damaged or no checkpoint: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    """The one paragraph of torch's message that says what is wrong: the others advise to run the code after all."""
    paragraphs = [' '.join(paragraph.split()) for paragraph in str(error).split('\n\n')]
    useful = [text for text in paragraphs if text and 'weights_only' not in text]
    return useful[0][:300] if useful else type(error).__name__


def load_from_local(filename: str, map_location=None) -> dict:
    """The loader of local files that MMEngine calls."""
    return _without_config(load_checkpoint_file(filename, map_location))


def _without_config(checkpoint: dict) -> dict:
    # MMEngine's Runner.resume executes meta['config'] as Python. It writes the key ``cfg`` itself, so nothing of a run is lost.
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    return checkpoint


def load_from_https(filename: str, map_location=None) -> dict:
    """The loader of URLs that MMEngine calls: fetches into torch's cache and reads as safely as from a file."""
    try:
        path = cached_file(filename, folder=Path(torch.hub.get_dir(), 'checkpoints'))
    except DownloadError as error:
        raise CheckpointError(str(error)) from error
    return load_from_local(str(path), map_location)


def load_from_refused(filename: str, map_location=None) -> dict:
    """In place of MMEngine's loaders of other services, which would run pickled code."""
    raise CheckpointError(f'{filename}: give a file or an https:// URL')


def register_checkpoint_loaders() -> None:
    """Makes MMEngine read every checkpoint by the functions above."""
    for prefix in list(CheckpointLoader._schemes):
        loader = {'': load_from_local, 'http://': load_from_https, 'https://': load_from_https}.get(prefix, load_from_refused)
        CheckpointLoader.register_scheme(prefixes=prefix, loader=loader, force=True)
