"""Progress bars."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import rich
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bar(description: str, total: int, completed: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the block runs, with MMEngine's log lines above it.

    Only the first process shows one, on a terminal without the environment variable ``CI``. Yields a function that advances it.
    """
    console = rich.get_console()
    # FORCE_COLOR makes rich take any file for a terminal.
    is_terminal = console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
    is_shown = is_main_process() and is_terminal and os.environ.get('CI', 'false') in ('', '0', 'false')
    times = (TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn())
    columns = (TextColumn(f'[bold]{description}'), BarColumn(), MofNCompleteColumn(), *times)
    bar = Progress(*columns, console=console, disable=not is_shown, transient=True, refresh_per_second=2)
    task = bar.add_task('', total=total, completed=completed)
    with bar, ExitStack() as restore:
        if not bar.disable:  # rich moves above the bar only what goes through the stdout that it has replaced
            for handler in MMLogger.get_current_instance().handlers:
                if type(handler) is logging.StreamHandler:
                    stream = handler.setStream(sys.stdout)
                    restore.callback(handler.setStream, stream or sys.stdout)
        yield lambda steps: bar.advance(task, steps)
