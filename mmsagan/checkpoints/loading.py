"""Loading checkpoint files without ever running code from them.

``torch.load`` of torch >= 2.6 refuses pickled code, and with it MMEngine's own checkpoints, whose log buffers are objects.
Upstream MMEngine therefore cannot resume; the kept-up fork falls back to running whatever the file holds. Here the few harmless
types are allowed by name, and everything else is refused. Registering this loader with MMEngine's ``CheckpointLoader`` makes it
the one that ``Runner.resume`` and ``Runner.load_checkpoint`` use; other projects' files become ours on the way.
"""

import json
import pickle
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import safetensors
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader

from mmsagan.checkpoints import formats
from mmsagan.checkpoints.content import tensors_of
from mmsagan.checkpoints.wholeness import check_whole
from mmsagan.errors import CheckpointError, DownloadError
from mmsagan.utils.download import cached_file
from mmsagan.utils.pickles import ARRAY_GLOBALS


def _history_buffer_method(owner, name: str):
    """Stands in for ``getattr`` in a checkpoint: gives the statistics methods that a HistoryBuffer's pickle names."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed in a checkpoint')
    return getattr(HistoryBuffer, name)


def _safe_globals() -> list:
    allowed = [(value, name) for name, value in ARRAY_GLOBALS.items()]
    return [*allowed, HistoryBuffer, slice, (_history_buffer_method, 'builtins.getattr')]


def load_checkpoint_file(path: str | Path, map_location='cpu') -> dict:
    """Reads a checkpoint: tensors, plain values, numpy arrays and MMEngine's log buffers, nothing else.

    Args:
        path: The file.
        map_location: Where tensors go, as in ``torch.load``.

    Returns:
        What the file holds.

    Raises:
        CheckpointError: The file is missing, is no checkpoint, is damaged (see
            :func:`~mmsagan.checkpoints.wholeness.check_whole`), or holds code.
    """
    path = Path(path).expanduser()
    is_safetensors = check_whole(path) == 'safetensors'
    try:
        if is_safetensors:
            return _load_safetensors(path, map_location)
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'checkpoint {path} is refused, since it holds more than data or is no checkpoint: {_reason(error)}'
        ) from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise CheckpointError(f'checkpoint {path} is damaged, perhaps cut off, or no checkpoint: {_reason(error)}') from error


def _load_safetensors(path: Path, map_location) -> dict:
    with safetensors.safe_open(path, framework='pt', device=str(map_location or 'cpu')) as file:
        meta = json.loads((file.metadata() or {}).get('meta', '{}'))
        return dict(meta=meta, state_dict={key: file.get_tensor(key) for key in file.keys()})


def _reason(error: Exception) -> str:
    """The one paragraph of torch's message that says what is wrong: the others advise to run the code after all."""
    paragraphs = [' '.join(paragraph.split()) for paragraph in str(error).split('\n\n')]
    useful = [text for text in paragraphs if text and 'weights_only' not in text]
    return useful[0][:300] if useful else type(error).__name__


def load_from_local(filename: str, map_location=None) -> dict:
    """The loader of local files that MMEngine calls: a checkpoint under our names, whatever project wrote it."""
    path = Path(url2pathname(urlsplit(filename).path) if filename.startswith('file://') else filename)
    content = load_checkpoint_file(path, map_location)
    conversion = convert_content(content, path)
    if conversion is None:
        return _without_config(content)
    said = [*conversion.notes, *(f'{key} is dropped' for key in conversion.dropped)]
    print_log(f'{filename} is of {conversion.format} and was converted: {"; ".join(said) or "nothing is left out"}', 'current')
    return conversion.checkpoint()


def convert_content(content, path: Path) -> formats.Conversion | None:
    """Converts the loaded content of another project's file.

    The discriminator and the averaged generator of StudioGAN are taken from the files beside the generator's.

    Args:
        content: Of the file.
        path: The file, whose name says what tensors do not.

    Returns:
        The conversion; None for a checkpoint of ours, or of nothing known.

    Raises:
        CheckpointError: The file is damaged, or is a part that cannot be used alone.
    """
    try:
        format = formats.format_of(tensors_of(content))
        if format == formats.OPENMMLAB:
            return formats.from_openmmlab(content, path)
        if format in (formats.STUDIOGAN, formats.LEGACY_STUDIOGAN):
            siblings = [studiogan_sibling(path, network) for network in ('D', 'G_ema')]
            return formats.from_studiogan(content, *(load_checkpoint_file(file) if file else None for file in siblings))
    except CheckpointError as error:
        raise CheckpointError(f'checkpoint {path}: {error}') from error
    return None


def studiogan_sibling(path: Path, network: str) -> Path | None:
    """The file of another network of the same StudioGAN run and step, found by its name; None if it is not there.

    Args:
        path: The generator's file.
        network: ``'D'`` or ``'G_ema'``.
    """
    sibling = path.with_name(path.name.replace('model=G-', f'model={network}-', 1))
    return sibling if sibling != path and sibling.is_file() else None


def _without_config(checkpoint: dict) -> dict:
    # MMEngine's Runner.resume executes meta['config'] as Python. It writes the key ``cfg`` itself, so nothing of a run is lost.
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'].pop('config', None)
    return checkpoint


def load_from_https(filename: str, map_location=None) -> dict:
    """The loader of URLs that MMEngine calls: fetches into torch's cache and reads as safely as from a file.

    The sum that a published file's name ends in is checked.
    """
    pinned = sum_in_name(filename)
    try:
        path = cached_file(filename, pinned, folder=Path(torch.hub.get_dir(), 'checkpoints'))
    except DownloadError as error:
        hint = (
            f' ({pinned} in its name is taken for the start of its sha256; a file given by path is not checked)'
            if pinned
            else ''
        )
        raise CheckpointError(f'{error}{hint}') from error
    return load_from_local(str(path), map_location)


def sum_in_name(url: str) -> str | None:
    """The first digits of a file's sha256, if its name ends in them, as OpenMMLab and PyTorch name what they publish.

    Example:
        >>> sum_in_name('https://example.org/sagan_20210730_125449-d50568a4.pth')
        'd50568a4'
    """
    found = re.search(r'-([0-9a-f]{8,64})\.(pth|pt|safetensors)$', re.split('[?#]', url)[0])
    # Eight digits that are a day are no sum.
    is_day = found and re.fullmatch(r'(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])', found[1])
    return found[1] if found and not is_day else None


def load_from_refused(filename: str, map_location=None) -> dict:
    """In place of MMEngine's loaders of other services, which would run pickled code."""
    raise CheckpointError(f'{filename}: give a file or an https:// URL')


def register_checkpoint_loaders() -> None:
    """Makes MMEngine read every checkpoint by the functions above."""
    for prefix in list(CheckpointLoader._schemes):
        loader = {'': load_from_local, 'http://': load_from_https, 'https://': load_from_https}.get(prefix, load_from_refused)
        CheckpointLoader.register_scheme(prefixes=prefix, loader=loader, force=True)
