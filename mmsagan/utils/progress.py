"""Progress bars on a terminal, one for all processes."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def are_bars_shown() -> bool:
    """Whether this is the first process, and somebody looks at its output as it comes: on a terminal, and not in CI.

    What is forced to be coloured (``FORCE_COLOR``) is no terminal yet, and the terminals of CI services, told by their variable
    ``CI``, keep all that a bar has ever shown.
    """
    console = rich.get_console()
    is_terminal = console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
    return is_main_process() and is_terminal and os.environ.get('CI', 'false') in ('', '0', 'false')


@contextmanager
def progress_bar(description: str, total: int) -> Iterator:
    """Shows a bar while the block runs, on the first process and if the output is a terminal.

    Args:
        description: What is going on.
        total: Number of steps.

    Yields:
        A function that advances the bar by a number of steps.
    """
    bar = Progress(
        TextColumn(f'[bold]{description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.fields[rate]}'),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
        console=rich.get_console(),
        disable=not are_bars_shown(),
        transient=True,
    )
    if bar.disable:
        yield lambda steps: None
        return
    task = bar.add_task('', total=total, rate='')

    def advance(steps: int) -> None:
        bar.advance(task, steps)
        if bar.tasks[0].speed:
            bar.update(task, rate=f'{bar.tasks[0].speed:.0f}/s')

    with bar, logs_above_bars():
        yield advance


@contextmanager
def logs_above_bars(hidden: Callable[[logging.LogRecord], bool] = lambda record: False) -> Iterator[None]:
    """Within it, MMEngine's log lines appear above the bars: rich takes them from the stdout that it has put in place.

    Args:
        hidden: Says which records are not to appear on the terminal.
    """
    handlers = [
        handler
        for handler in MMLogger.get_current_instance().handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]

    def is_shown(record: logging.LogRecord) -> bool:
        return not hidden(record)

    streams = [handler.setStream(sys.stdout) for handler in handlers]
    for handler in handlers:
        handler.addFilter(is_shown)
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams):
            handler.removeFilter(is_shown)
            if stream is not None:
                handler.setStream(stream)
