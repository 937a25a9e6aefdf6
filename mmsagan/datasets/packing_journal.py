"""The journal of a data set that is being packed: after a kill, it says what of the images is whole."""

import base64
import io
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mmsagan.datasets.packed import JOURNAL, Job
from mmsagan.errors import ConfigError, DataError

HEADER_SIZE = 128  # of images.npy, before the images


@dataclass
class Journal:
    """What has been written: a first line with the job, then a line a chunk. A line that a kill has cut off does not count.

    Args:
        folder: Of the packed data set.
        job: Has to be the one that the journal was begun with.

    Attributes:
        done: Images that the chunks came from, the skipped ones included.
        end: Size of ``images.npy`` in bytes.
        sizes: Height and width of each image that was written.
        skipped: Numbers of the images that could not be read.
        digests: Sums of the pixels of each image that was written.
    """

    folder: Path
    job: Job
    done: int = 0
    end: int = HEADER_SIZE
    sizes: list[list[int]] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)

    def __enter__(self) -> 'Journal':
        path = self.folder / JOURNAL
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        whole = [line for line in lines if line.endswith(b'\n')]
        try:
            records = [json.loads(line) for line in whole]
            if records:
                check_same_job(self.folder, records[0], self.job)
            for record in records[1:]:
                self._count(**record)
            if not all(type(number) is int and number >= 0 for number in (self.done, self.end, *self.skipped)):
                raise ValueError('a number in it is none')
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f'{path} is damaged ({error}); delete {self.folder}, pack again') from error
        self._file = path.open('r+b' if lines else 'w+b')
        self._file.truncate(sum(map(len, whole)))
        self._file.seek(0, os.SEEK_END)
        if not records:
            self._write(asdict(self.job))
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def add(self, digests: bytes, **record) -> None:
        """Notes a chunk whose images are on the disk."""
        record = dict(record, digests=base64.b64encode(digests).decode())
        self._count(**record)
        self._write(record)

    def _count(self, done: int, end: int, sizes: list, skipped: list, digests: str) -> None:
        self.done, self.end = done, end
        self.sizes += sizes
        self.skipped += skipped
        self.digests += base64.b64decode(digests)

    def _write(self, record: dict) -> None:
        self._file.write(json.dumps(record, separators=(',', ':')).encode() + b'\n')
        to_disk(self._file)


def to_disk(file: io.BufferedIOBase) -> None:
    """Returns when what has been written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def check_same_job(folder: Path, found: dict, job: Job) -> None:
    """Raises a ConfigError if a folder is packed, or being packed, by another job; ``found`` is what it says of its own."""
    for key, value in asdict(job).items():
        if found.get(key) != value:
            raise ConfigError(
                f'{folder} is packed with {key}={found.get(key)!r}, and now it is {value!r}; choose another --out, or delete it'
            )


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of an ``.npy`` file of uint8, of the same 128 bytes for any shape, so that it can be written last."""
    content = repr(dict(descr='|u1', fortran_order=False, shape=shape)).ljust(HEADER_SIZE - 11) + '\n'
    return np.lib.format.magic(1, 0) + len(content).to_bytes(2, 'little') + content.encode()
