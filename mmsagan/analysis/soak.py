"""Whether a long training keeps taking memory and file handles."""

import os
import re
import threading
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook

from mmsagan.analysis.tables import text_table
from mmsagan.errors import ConfigError
from mmsagan.registry import HOOKS

MB = 2**20


@dataclass(frozen=True)
class Resources:
    """What a training process has at a moment.

    Attributes:
        iteration: Of the training.
        memory_mb: Resident memory of the process, in MB of 2**20 bytes.
        loaders_mb: The same of its data loader processes together; what they share with it counts for each.
        files: Open files, pipes and sockets.
        threads: Python's.
    """

    iteration: int
    memory_mb: float
    loaders_mb: float
    files: int
    threads: int


@HOOKS.register_module()
class ResourceHook(Hook):
    """Notes a training's :class:`Resources`.

    Args:
        interval: Iterations between two notes.

    Raises:
        ConfigError: The system does not tell them: it is not Linux.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 50):
        if not Path('/proc/self/fd').is_dir():
            raise ConfigError('memory and file handles are read from /proc, which only Linux has')
        self.interval = interval
        self.notes: list[Resources] = []

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval):
            self.notes.append(resources(runner.iter + 1))


def resources(iteration: int) -> Resources:
    """What this process has now."""
    children = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
    return Resources(
        iteration,
        _resident(Path('/proc/self/status')),
        sum(_resident(Path(f'/proc/{child}/status')) for child in children),
        len(os.listdir('/proc/self/fd')),
        threading.active_count(),
    )


def _resident(status: Path) -> float:
    try:
        found = re.search(r'VmRSS:\s+(\d+) kB', status.read_text())
    except OSError:  # a process that has just ended
        return 0.0
    return int(found.group(1)) * 1024 / MB if found else 0.0


@dataclass(frozen=True)
class Growth:
    """How much more of something there is in a training's last third than in the third before.

    Attributes:
        name: Of what.
        before: Median over the second third.
        after: Median over the last one.
        slope: Change in 1 000 iterations, from a straight line through both.
    """

    name: str
    before: float
    after: float
    slope: float


def growth(notes: list[Resources]) -> list[Growth]:
    """The growth of each resource; the first third is left out, since caches fill and memory is laid out in it.

    Raises:
        ConfigError: There are too few notes to tell.
    """
    if len(notes) < 6:
        raise ConfigError(f'{len(notes)} notes are too few to see growth; train for more iterations, or note more often')
    table = np.array([astuple(note) for note in notes], dtype=float)
    middle, last = np.array_split(table, 3)[1:]
    both = np.concatenate([middle, last])
    names = [field.name for field in fields(Resources)]
    return [
        Growth(
            name,
            float(np.median(middle[:, column])),
            float(np.median(last[:, column])),
            float(np.polyfit(both[:, 0], both[:, column], 1)[0] * 1000),
        )
        for column, name in enumerate(names)
        if name != 'iteration'
    ]


def growth_table(found: list[Growth]) -> str:
    """The growth as text."""
    rows = [[each.name, f'{each.before:,.1f}', f'{each.after:,.1f}', f'{each.slope:+,.2f}'] for each in found]
    return text_table(['', 'second third', 'last third', 'in 1000 iterations'], rows)
