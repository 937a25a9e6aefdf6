"""Zip and tar files of images, read in place. Files in them have paths as if they were in folders: ``a.zip/cat/3.png``."""

import gzip
import mmap
import os
import re
import tarfile
from collections.abc import Callable
from functools import cache, partial
from zipfile import ZipFile

from mmsagan.errors import DataError

_SUFFIX = re.compile(r'\.(zip|tar|tar\.gz|tgz)(?=[/\\]|$)', re.IGNORECASE)


class _MappedFile(mmap.mmap):
    """A file with a position for each process; forked processes would share that of an open file."""

    def seekable(self) -> bool:  # for zipfile; Python 3.13 has it
        return True


def find_archive(path: str) -> str | None:
    """The archive that a path is of, or leads into; None for any other file or folder."""
    ends = (match.end() for match in _SUFFIX.finditer(path))
    return next((path[:end] for end in ends if os.path.isfile(path[:end])), None)


@cache
def open_archive(path: str, modified: float) -> dict[str, Callable[[], bytes]]:
    """Returns functions that read the files in an archive, by normalized name. A ``.tar.gz`` file is unpacked in memory."""
    try:
        with open(path, 'rb') as file:
            content = _MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
        if path.lower().endswith('.zip'):
            archive = ZipFile(content)  # type: ignore[arg-type]
            found: dict = {info.filename: partial(archive.read, info) for info in archive.infolist() if not info.is_dir()}
        else:
            if path.lower().endswith('gz'):
                unpacked = gzip.decompress(content)
                content = _MappedFile(-1, len(unpacked))
                content[:] = unpacked
            with tarfile.open(fileobj=content, mode='r:') as tar:  # type: ignore[call-overload]
                data = memoryview(content)
                found = {info.name: partial(bytes, data[info.offset_data :][: info.size]) for info in tar if info.isreg()}
    except Exception as error:  # damaged headers raise nearly anything
        raise DataError(f'{path} cannot be read as an archive: {error or type(error).__name__}') from error
    return {os.path.normpath(name).lstrip('/\\'): read for name, read in found.items()}


def read_member(path: str) -> bytes | None:
    """The content of a file in an archive; None if the path leads into none."""
    archive = find_archive(path)
    return open_archive(archive, os.path.getmtime(archive))[path[len(archive) + 1 :]]() if archive else None
