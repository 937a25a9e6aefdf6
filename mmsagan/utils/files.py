"""Writing files so that nobody ever sees half of one; finding the files that come with the package."""

import csv
import difflib
import errno
import fcntl
import io
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import yaml
from mmengine.logging import print_log

from mmsagan.errors import ConfigError

PACKAGE = Path(__file__).parent.parent
LOCK = 'training.lock'  # says who trains in a folder; empty when nobody does
# What a killed process leaves behind in place of ``name``: ``.name.<8 characters>.unfinished``.
_UNFINISHED = '.unfinished'
# Errors of file systems that lack or refuse a function, as CIFS and FUSE may; full and broken disks have others.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EACCES}


def where_supported(function: Callable, *arguments) -> None:
    """Calls a function such as ``os.fsync``, and does without it on file systems that do not support it."""
    try:
        function(*arguments)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


@contextmanager
def open_atomically(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file that is written or replaced completely or not at all, and creates its folder.

    The file then survives a power cut, where the file system has ``fsync``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'.{path.name}.{secrets.token_hex(4)}{_UNFINISHED}')
    try:
        with unfinished.open('xb') as file:
            yield file
            file.flush()
            where_supported(os.fsync, file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):  # a disk that has gone keeps nothing
            os.unlink(unfinished)
        raise
    with suppress(OSError):  # the new name; not on every file system
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes a file by :func:`open_atomically`."""
    with open_atomically(path) as file:
        file.write(data)


def remove_unfinished(folder: str | Path) -> list[Path]:
    """Removes the unfinished files of killed processes from a folder to which no other process writes; returns the paths."""
    left = [path for path in Path(folder).glob(f'.*{_UNFINISHED}') if re.search(r'\.\w{8}\.unfinished$', path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    return left


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Context in which no other process can lock this folder, which is created. Raises a ConfigError if one has locked it.

    A POSIX record lock ends with the process, and loader processes do not inherit it. Where there are none, there is a warning.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        file = Path(folder, LOCK).open('a+', errors='replace')  # which stays: removing it would race with the next process
    except OSError as error:
        raise ConfigError(f'{folder} cannot be written: {error}; choose another --work-dir') from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read().strip() or 'which does not say who it is'
            raise ConfigError(f'another training runs in {folder} ({holder}); stop it or choose another --work-dir') from error
        except OSError as error:
            reason = f'{folder} cannot be locked ({error.strerror or error})'
            print_log(f'{reason}: do not start a second training in it before this one has ended', 'current', logging.WARNING)
        holder = f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%Y-%m-%d %H:%M:%S")}'
        try:
            with suppress(OSError):  # a full disk
                os.truncate(file.fileno(), 0)
                os.write(file.fileno(), holder.encode())
            yield
        finally:
            with suppress(OSError):
                os.truncate(file.fileno(), 0)


def write_csv(path: str | Path, rows: Iterable[Sequence]) -> None:
    """Writes a table with :func:`write_output`. What is not UTF-8, as parts of file names may be, is escaped."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    write_output(path, text.getvalue().encode(errors='backslashreplace'))


def write_output(path: str | Path, data: bytes) -> None:
    """Like :func:`write_atomically`, for a file that the user has asked for: raises a ConfigError if it cannot be written."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(f'{path} cannot be written: {error.strerror or error}') from error


def check_writable(path: str | Path, suffixes: Sequence[str] = ()) -> None:
    """Raises a ConfigError if a file cannot be written to this path, or its name has none of the suffixes; creates nothing."""
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ConfigError(f'{path} must end with {" or ".join(suffixes)}')
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = 'it is a folder' if path.is_dir() else f'{folder} is a file or a read-only folder'
        raise ConfigError(f'{path} cannot be written: {reason}')


def check_picture_and_table(path: Path, suffixes: Sequence[str] = ('.png',)) -> Path:
    """Checks a picture's path, and that of the .csv file beside it, with :func:`check_writable`; returns the latter."""
    table = path.with_suffix('.csv')
    check_writable(path, suffixes)
    check_writable(table)
    return table


def shipped_root() -> Path:
    """The folder of ``model-index.yml``, ``configs`` and ``tools``: ``.mim`` of an installation, else the repository."""
    for folder in (PACKAGE / '.mim', PACKAGE.parent):
        if (folder / 'model-index.yml').is_file():
            # An editable install has links to the repository.
            return (folder / 'model-index.yml').resolve().parent
    raise ConfigError(f'{PACKAGE / ".mim"} has no model-index.yml: the installation is incomplete; reinstall mmsagan')


@dataclass(frozen=True)
class ZooModel:
    """A published model."""

    name: str  # e.g. sagan_32_woReLUinplace_cifar10_b64x1_best-FID
    config: Path  # file of the config that it was trained with
    weights: str  # URL of the checkpoint, or a repository


@cache
def list_models() -> tuple[ZooModel, ...]:
    """Lists all published models. Of the models of a config, the one with the best FID comes first."""
    root, models = shipped_root(), []
    for metafile in yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))['Import']:
        for entry in yaml.safe_load((root / metafile).read_text(encoding='utf-8'))['Models']:
            models.append(ZooModel(entry['Name'], root / entry['Config'], entry['Weights']))
    return tuple(models)


def find_config(name: str | Path) -> Path:
    """Finds a config on this machine, as :func:`~mmsagan.apis.zoo.resolve_config` describes it."""
    if Path(name).expanduser().is_file():
        return Path(name).expanduser()
    leaves = [path for path in shipped_root().glob('configs/*/*.py') if path.parent.name != '_base_']
    models = list_models()
    wanted = Path(str(name).removesuffix('.py')).parts
    found = [path for path in leaves if wanted and path.with_suffix('').parts[-len(wanted) :] == wanted]
    found += [model.config for model in models if model.name == str(name)]
    if found:
        return found[0]
    configs = sorted({path.stem for path in leaves})
    hint = suggest(Path(name).name.removesuffix('.py'), [*configs, *(model.name for model in models)])
    hint = hint or f'; there are {", ".join(configs)}'
    raise ConfigError(f'{name} is neither a file nor the name of a config or of a published model{hint}')


def suggest(name: str, known: list[str]) -> str:
    """Returns the end of a message that asks whether a similar known name is meant; empty if none is similar."""
    close = difflib.get_close_matches(name, known, n=2)
    return f'; did you mean {" or ".join(close)}?' if close else ''
