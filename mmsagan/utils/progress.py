"""Progress bars on a terminal, one for all processes."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import rich
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bar(description: str, total: int) -> Iterator:
    """Shows a bar while the block runs, on the first process and if the output is a terminal.

    Args:
        description: What is going on.
        total: Number of steps.

    Yields:
        A function that advances the bar by a number of steps.
    """
    console = rich.get_console()
    bar = Progress(
        TextColumn(f'[bold]{description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.fields[rate]}'),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
        console=console,
        disable=not (is_main_process() and console.is_terminal),
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
def logs_above_bars() -> Iterator[None]:
    """Within it, MMEngine's log lines appear above the bars: rich takes them from the stdout that it has put in place."""
    handlers = [
        handler
        for handler in MMLogger.get_current_instance().handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    streams = [handler.setStream(sys.stdout) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams):
            if stream is not None:
                handler.setStream(stream)
