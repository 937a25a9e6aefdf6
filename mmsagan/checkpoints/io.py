"""Reading and writing checkpoint files, without ever running code from them.

``torch.load(weights_only=True)`` refuses the pickled log buffers in MMEngine's checkpoints, so upstream MMEngine cannot resume,
and the maintained fork falls back to executing the file. Here the few harmless types are allowed by name, and nothing else.
"""

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmsagan.errors import CheckpointError
from mmsagan.utils.files import write_output
from mmsagan.utils.pickles import ARRAY_GLOBALS

LAST_CHECKPOINT = 'last_checkpoint'  # MMEngine's file that names the newest checkpoint


def load_checkpoint_file(path: str | Path, map_location='cpu') -> dict:
    """Reads a checkpoint that holds tensors, plain values, numpy arrays and MMEngine's log buffers.

    Raises a CheckpointError if the file is missing, damaged (see :func:`check_integrity`), no checkpoint, or contains code.
    """
    path = Path(path).expanduser()
    file_format = check_integrity(path)
    try:
        if file_format == 'safetensors':
            with safetensors.safe_open(path, framework='pt', device=str(map_location or 'cpu')) as file:
                meta = json.loads((file.metadata() or {}).get('meta', '{}'))
                return dict(meta=meta, state_dict={key: file.get_tensor(key) for key in file.keys()})
        arrays = [(stand_in, name) for name, stand_in in ARRAY_GLOBALS.items()]
        allowed = [*arrays, HistoryBuffer, slice, (_get_history_buffer_method, 'builtins.getattr')]
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        # Other paragraphs of torch's message advise to run the code after all.
        paragraphs = [' '.join(paragraph.split()) for paragraph in str(error).split('\n\n')]
        reason = next((text[:300] for text in paragraphs if text and 'weights_only' not in text), type(error).__name__)
        is_refused = isinstance(error, pickle.UnpicklingError)
        verdict = 'refused, since it holds more than data' if is_refused else 'damaged, perhaps cut off'
        raise CheckpointError(f'checkpoint {path} is {verdict}, or is no checkpoint: {reason}') from error


def split_checkpoint(content) -> tuple[dict[str, Tensor], Mapping]:
    """Returns the tensors of a loaded file, without the prefixes of ``torch.compile`` and DDP, and the metadata.

    Raises a CheckpointError if there are no tensors, or one that cannot be a weight.
    """
    state, meta = content, None
    if isinstance(content, Mapping) and 'state_dict' in content:
        state, meta = content['state_dict'], content.get('meta')
    state = dict(state) if isinstance(state, Mapping) else {}
    if not state or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise CheckpointError('it holds no networks: neither a state_dict nor tensors by name')
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f'{key[:200]} is no weight: it is sparse, or the file does not hold so many numbers')
    state = {re.sub(r'^(module\.)+', '', key.replace('_orig_mod.', '')): tensor for key, tensor in state.items()}
    for network in ('generator', 'generator_ema', 'discriminator'):
        if any(key.startswith(f'{network}.module.conv_blocks.') for key in state):  # other networks may have such a part
            state = {re.sub(rf'^{network}\.module\.', f'{network}.', key): tensor for key, tensor in state.items()}
    return state, meta if isinstance(meta, Mapping) else {}


def _get_history_buffer_method(owner, name: str):
    """Replaces ``getattr`` in a checkpoint: returns the statistics methods that a pickled HistoryBuffer refers to."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed in a checkpoint')
    return getattr(HistoryBuffer, name)


def check_integrity(path: str | Path) -> str:
    """Checks that a checkpoint file is complete and undamaged, as far as its format allows, in bounded memory.

    Returns the format, or raises a CheckpointError. ``'zip'``, as ``torch.save`` writes it, has a CRC-32 checksum for each
    tensor, which PyTorch does not check; here all of them are compared. The header of ``'safetensors'`` is compared with the
    file's size, which shows truncation but no flipped bits. Of PyTorch's ``'pickle'``, only the first byte is checked.
    """
    path = Path(path).expanduser()
    try:
        with path.open('rb') as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f'checkpoint {path} cannot be read: {error.strerror or error}') from error
    if start.startswith(pickle.PROTO):
        return 'pickle'
    try:
        if not start.startswith(b'PK\x03\x04'):
            with safetensors.safe_open(path, framework='numpy'):
                return 'safetensors'
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            for record in records:
                is_stored = record.compress_type == zipfile.ZIP_STORED and record.compress_size == record.file_size
                # PyTorch's reader returns uninitialized memory for a directory.
                if not is_stored or record.external_attr & 0x10:
                    raise zipfile.BadZipFile(f'{record.filename} is compressed or a directory, which torch.save never writes')
            # Other readers of zip archives begin there.
            if not records or min(record.header_offset for record in records) != 0:
                raise zipfile.BadZipFile('the first record is not at the start of the file')
            # Overlapping records would let a small file claim any amount of memory.
            if sum(record.file_size for record in records) > path.stat().st_size:
                raise zipfile.BadZipFile('the records claim more bytes than the file has')
            # All checksums are 0 in a file written after torch.serialization.set_crc32_options(False).
            damaged = archive.testzip() if any(record.CRC for record in records) else None
            if damaged is not None:
                raise zipfile.BadZipFile(f'{damaged} does not match its checksum')
        return 'zip'
    except Exception as error:  # zipfile raises nearly anything: EOFError, NotImplementedError, struct.error, …
        reason = str(error) or type(error).__name__
        raise CheckpointError(f'checkpoint {path} is damaged, perhaps cut off, or no checkpoint: {reason}') from error


def list_checkpoints(folder: str | Path, template: str = 'iter_{}.pth', pointer: Path | None = None) -> list[tuple[int, Path]]:
    """Lists iteration and file of the checkpoints in a folder, ascending.

    Later ones than that named in ``pointer``, MMEngine's ``last_checkpoint``, are of an earlier, longer run, and left out.
    """
    before, _, after = template.partition('{}')
    name = re.compile(f'{re.escape(before)}(\\d+){re.escape(after)}')
    found = [(name.fullmatch(path.name), path) for path in Path(folder).glob('*')]
    saved = sorted((int(match[1]), path) for match, path in found if match)
    if pointer is not None and pointer.is_file():
        named = Path(os.fsdecode(pointer.read_bytes()).strip()).name
        last = next((step for step, path in saved if path.name == named), None)
        if last is not None:
            # A run killed between the two writes has a checkpoint that is newer than its pointer.
            written = pointer.stat().st_mtime_ns
            saved = [(step, path) for step, path in saved if step <= last or path.stat().st_mtime_ns >= written]
    return saved


def find_latest_checkpoint(
    folder: str | Path, template: str = 'iter_{}.pth', pointer: Path | None = None
) -> tuple[Path | None, list[CheckpointError]]:
    """Finds the newest checkpoint of a run that passes :func:`check_integrity`.

    Returns the file, or None if there are no checkpoints, and one error for each newer one that is damaged. Raises a
    CheckpointError if all are. See :func:`list_checkpoints`; ``pointer`` defaults to the one in ``folder``.
    """
    errors: list[CheckpointError] = []
    for _, path in reversed(list_checkpoints(folder, template, pointer or Path(folder, LAST_CHECKPOINT))):
        try:
            check_integrity(path)
            return path, errors
        except CheckpointError as error:
            errors.append(error)
    if errors:
        raise CheckpointError(f'no checkpoint in {folder} can be resumed from: ' + '; '.join(map(str, errors)))
    return None, []


def save_checkpoint_file(checkpoint: Mapping, path: str | Path) -> None:
    """Writes a checkpoint in the format of the suffix, see :func:`serialize_checkpoint`, with :func:`write_output`."""
    write_output(path, serialize_checkpoint(checkpoint, Path(path).suffix.removeprefix('.')))


def serialize_checkpoint(checkpoint: Mapping, file_format: str) -> bytes:
    """Returns what ``torch.save`` writes, or for ``'safetensors'`` a file of only ``state_dict``, and ``meta`` as JSON."""
    if file_format == 'safetensors':
        tensors = checkpoint['state_dict'].items()
        # The format does not allow tensors to share memory.
        copies = {key: tensor.detach().clone(memory_format=torch.contiguous_format) for key, tensor in tensors}
        return safetensors.torch.save(copies, {'format': 'pt', 'meta': json.dumps(checkpoint.get('meta', {}))})
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    return buffer.getvalue()
