"""Zip and tar files of images, read in place. Files in them have paths as if they were in folders: ``a.zip/cat/3.png``."""

import gzip
import os
import re
import tarfile
from collections.abc import Callable
from functools import cache
from zipfile import ZipFile

import numpy as np

from mmsagan.errors import DataError

_MAX_BYTES = 1 << 32  # unpacked, of a .tar.gz file or of an image in a .zip file
_SUFFIX = re.compile(r'\.(zip|tar|tar\.gz|tgz)(?=[/\\]|$)', re.IGNORECASE)


def find_archive(path: str) -> str | None:
    """The archive that a path is of, or leads into; None for any other file or folder."""
    ends = (match.end() for match in _SUFFIX.finditer(path))
    return next((path[:end] for end in ends if os.path.isfile(path[:end])), None)


@cache
def open_archive(path: str, modified: float, process: int) -> dict[str, Callable[[], bytes]]:
    """Returns functions that read the files in an archive, by normalized name.

    Each process opens it, since forked ones share the position of an open file. A ``.tar.gz`` file is unpacked in memory.
    """
    try:
        if path.lower().endswith('.zip'):
            archive = ZipFile(path)
            infos = [info for info in archive.infolist() if not info.is_dir()]
            found: dict = {info.filename: lambda info=info: archive.open(info).read(_MAX_BYTES) for info in infos}
        else:
            is_packed = path.lower().endswith('gz')
            data = np.frombuffer(gzip.open(path).read(_MAX_BYTES), np.uint8) if is_packed else np.memmap(path, mode='r')
            if is_packed and len(data) == _MAX_BYTES:
                raise ValueError(f'unpacked, it has at least {_MAX_BYTES} bytes; unpack it with gunzip')
            with tarfile.open(path, 'r:gz' if is_packed else 'r:') as tar:
                found = {info.name: data[info.offset_data :][: info.size].tobytes for info in tar if info.isreg()}
    except Exception as error:  # damaged headers raise nearly anything
        raise DataError(f'{path} cannot be read as an archive: {error or type(error).__name__}') from error
    return {os.path.normpath(name).lstrip('/\\'): read for name, read in found.items()}


def read_member(path: str) -> bytes | None:
    """The content of a file in an archive; None if the path leads into none."""
    archive = find_archive(path)
    return open_archive(archive, os.path.getmtime(archive), os.getpid())[path[len(archive) + 1 :]]() if archive else None
