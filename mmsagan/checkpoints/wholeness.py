"""Telling whole checkpoint files from damaged ones, before anything of them is used."""

import pickle
import zipfile
from pathlib import Path

import safetensors

from mmsagan.errors import CheckpointError

_BLOCK = 1 << 20
# An entry that is marked as a folder by this bit is given out by PyTorch's reader as memory that nothing was read into.
_FOLDER_BIT = 0x10


def check_whole(path: str | Path) -> str:
    """Checks that a checkpoint file is all there and undamaged, as far as its format allows, in bounded memory.

    A file of ``torch.save`` is a zip archive with a CRC-32 sum for each tensor, which PyTorch writes and does not read; here
    every sum is compared with the bytes. The two other formats have no sums. Of ``.safetensors`` files the header's sizes are
    held against the file's, so that cut-off files are found and flipped bits are not; of the pickles that PyTorch wrote before
    2020, and of archives written without sums (``torch.serialization.set_crc32_options``), only what comes first is looked at.

    Args:
        path: The file.

    Returns:
        ``'zip'``, ``'pickle'`` or ``'safetensors'``.

    Raises:
        CheckpointError: The file is missing, empty, cut off, damaged, or no checkpoint; names the file and the damaged record.
    """
    path = Path(path).expanduser()
    format = _format_of(path)
    if format == 'pickle':
        return format
    try:
        if format == 'zip':
            _check_archive(path)
        else:
            with safetensors.safe_open(path, framework='numpy'):
                pass
    except CheckpointError:
        raise
    except Exception as error:  # zipfile raises nearly anything: EOFError, NotImplementedError, struct.error, …
        reason = str(error) or type(error).__name__
        raise CheckpointError(f'checkpoint {path} is damaged, perhaps cut off, or no checkpoint: {reason}') from error
    return format


def _format_of(path: Path) -> str:
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path} {"is a folder: give a file in it" if path.is_dir() else "does not exist"}')
    try:
        with path.open('rb') as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f'checkpoint {path} cannot be read: {error.strerror or error}') from error
    if not start:
        raise CheckpointError(f'checkpoint {path} is empty: it was not written or not fetched to its end')
    if start.startswith(b'PK\x03\x04'):
        return 'zip'
    if start[8:] == b'{':
        return 'safetensors'
    if start.startswith(pickle.PROTO):
        return 'pickle'
    raise CheckpointError(f'{path} is no checkpoint: it is neither a file of torch.save nor of safetensors')


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        for record in records:
            if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
                raise CheckpointError(
                    f'checkpoint {path}: {record.filename} is compressed, which torch.save never does; unpacked, it might fill '
                    'the memory'
                )
            if record.external_attr & _FOLDER_BIT:
                raise CheckpointError(f'checkpoint {path} is damaged: {record.filename} is marked as a folder')
        _check_bounds(path, records)
        # torch.save can be told to write no sums, which are zero then.
        if any(record.CRC for record in records):
            for record in records:
                _check_sum(path, archive, record)


def _check_bounds(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Refuses archives that are larger on the inside, or that are something else to another reader of zip archives."""
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise CheckpointError(f'checkpoint {path} is damaged: its records claim more bytes than the file has')
    if not records or min(record.header_offset for record in records) != 0:
        raise CheckpointError(f'checkpoint {path} is damaged: its first record does not come first')


def _check_sum(path: Path, archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    try:
        with archive.open(record) as file:
            while file.read(_BLOCK):
                pass
    except Exception as error:  # see above
        raise CheckpointError(
            f'checkpoint {path} is damaged: {record.filename} is not what was written ({str(error) or type(error).__name__})'
        ) from error
