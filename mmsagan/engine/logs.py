"""What a training has logged, as curves over its iterations."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmsagan.errors import ConfigError, DataError
from mmsagan.visualization.curves import Curve

_LOG = Path('vis_data', 'scalars.json')
_HELD_OUT = 'held_out/'


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Reads what MMEngine's ``LocalVisBackend`` has written: losses and other numbers of a training, and evaluations' results.

    The runs of one work dir are joined, so that a training that was resumed is one curve: from the first iteration that a run
    has logged, its numbers take the place of the earlier runs'.

    Args:
        path: A work dir, the folder of one of its runs, or a file ``scalars.json``.

    Returns:
        By name the iterations (K,) and the values (K,), float64.

    Raises:
        DataError: There is no log, or it cannot be read.
    """
    joined: list[dict] = []
    for file in log_files(Path(path)):
        records = _read(file)
        if records:
            first = min(record['step'] for record in records)
            joined = [record for record in joined if record['step'] < first] + records
    if not joined:
        raise DataError(f'{path}: the log is empty; the run has not got to its first line yet')
    try:
        return _curves(joined)
    except OverflowError as error:
        raise DataError(f'{path}: {error}; is it a log?') from error


def log_files(path: Path) -> list[Path]:
    """The logs that ``path`` stands for, the oldest run first.

    Raises:
        DataError: There are none.
    """
    if path.is_file():
        return [path]
    # The runs' folders are named by date and time.
    files = [path / _LOG] if (path / _LOG).is_file() else sorted(path.glob(f'*/{_LOG.as_posix()}'))
    if not files:
        if any(path.glob('*/*.log')):
            raise DataError(f'{path}: the training ended before its first line of numbers, see default_hooks.logger.interval')
        raise DataError(f'{path}: no log; give a work dir, which holds <time>/{_LOG.as_posix()}, or such a file')
    return files


def run_name(path: str | Path) -> str:
    """What a run is called: the name of its work dir."""
    parts = [part for part in Path(path).resolve().parts if part not in _LOG.parts and not re.fullmatch(r'\d{8}_\d{6}', part)]
    return re.sub(r'\.json$', '', parts[-1])


def find_names(key: str, names: Sequence[str]) -> list[str]:
    """The logged names that a key means.

    It means the name that it is; else, upper and lower case aside, all names that end with it, after a slash, or start with it,
    before a slash: ``FID`` means ``FID-digits/fid``, and so does ``fid-digits``. Results of held-out real images are meant by
    keys that start with ``held_out/``.

    Args:
        key: The key.
        names: The logged names.

    Raises:
        ConfigError: It means none; the message lists the names.
    """
    if key in names:
        return [key]
    candidates = [name for name in names if name.startswith(_HELD_OUT) == key.startswith(_HELD_OUT)]
    found = [name for name in candidates if _fits(key.lower(), name.lower())]
    if not found:
        raise ConfigError(f'no {key!r} in the logs; there are {", ".join(names)}')
    return found


def is_result(name: str) -> bool:
    """Whether a logged name is an evaluation's result: ``<metric>/<result>``."""
    return '/' in name


def _fits(key: str, name: str) -> bool:
    return key == name or name.endswith(f'/{key}') or name.startswith(f'{key}/')


def _read(file: Path) -> list[dict]:
    try:
        text = file.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{file} cannot be read: {error}') from error
    # What follows the last line's end is being written by a run that goes on.
    lines = text.split('\n')[:-1]
    return [_parse(line, f'{file}, line {number}') for number, line in enumerate(lines, 1) if line.strip()]


def _parse(line: str, place: str) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # the latter of deeply nested lists
        raise DataError(f'{place}: not a line of JSON ({error}); is it a log?') from error
    if not isinstance(record, dict) or type(record.get('step')) is not int:
        raise DataError(f'{place}: no entry of a log, which has a whole number "step"')
    if 'iter' not in record:
        # An evaluation's, whose times are those of a batch of samples, and not of an iteration.
        record = {name: value for name, value in record.items() if name not in ('time', 'data_time')}
    return record


def _curves(records: list[dict]) -> dict[str, Curve]:
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if isinstance(value, (int, float)) and name not in ('step', 'iter', 'epoch'):
                points.setdefault(name, []).append((record['step'], value))
    return {name: tuple(np.array(pairs, dtype=np.float64).T) for name, pairs in points.items()}
