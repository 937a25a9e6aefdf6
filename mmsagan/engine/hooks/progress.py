"""A live display of a training, on a terminal."""

import time
from contextlib import ExitStack

import rich
from mmengine.hooks import Hook
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmsagan.engine.log_processor import IterationLine, iteration_numbers
from mmsagan.registry import HOOKS
from mmsagan.utils.memory import memory_in_use
from mmsagan.utils.progress import are_bars_shown, logs_above_bars
from mmsagan.utils.text import duration

_SHORTEST_BAR = 10
# What the second line gives up on a narrow terminal, the first of it first.
_DISPENSABLE = ('waiting', 'memory', 'diversity', 'logits', 'speed', 'skipped', 'loss')
_WINDOW = 20  # iterations that the shown numbers are means of


class TrainingDisplay:
    """Two lines for a terminal of any width: how far a training is, and its numbers.

    Args:
        total: Iterations.
        done: Iterations done before.
    """

    def __init__(self, total: int, done: int = 0):
        self.total, self.done = total, done
        self.numbers: dict[str, str] = {}
        self.eta: float | None = None
        self._began = time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.first_line(options.max_width)
        yield Text(self.second_line(options.max_width), no_wrap=True, overflow='ellipsis')

    def first_line(self, width: int) -> Table:
        """The bar, as long as there is room for it, between what must be there and what may."""
        elapsed = duration(time.monotonic() - self._began)
        left = f'left {duration(self.eta)}' if self.eta is not None else ''
        before, after = f'training {self.done}/{self.total}', [elapsed, left]
        while after and len(' '.join([before, *after])) + 2 + _SHORTEST_BAR > width:
            after.pop(0)
        bar = ProgressBar(self.total, self.done, width=max(_SHORTEST_BAR, width - len(' '.join([before, *after])) - 1))
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(before, style='bold', no_wrap=True), bar, *(Text(text, no_wrap=True) for text in after))
        return line

    def second_line(self, width: int) -> str:
        """As many of the numbers as there is room for, the most important ones."""
        shown = dict(self.numbers)
        for about in _DISPENSABLE:
            if len('  '.join(shown.values())) <= width:
                break
            shown.pop(about, None)
        return '  '.join(shown.values())


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows how far the training is, its speed, losses, logits and the time left below the log, when the output is a terminal.

    The log's lines of iterations, which say the same, then go to the log file only. Elsewhere (a file, CI) nothing is shown,
    and the log's lines are printed.

    Args:
        interval: Iterations between two updates of the numbers.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 5):
        self.interval = interval
        self.display: TrainingDisplay | None = None
        self._active = ExitStack()

    def before_train(self, runner) -> None:
        if not are_bars_shown():
            return
        self.display = TrainingDisplay(runner.max_iters, runner.iter)
        # Other bars on the same console are drawn below. Twice a second, since it takes time from the training.
        self._active.enter_context(Live(self.display, console=rich.get_console(), refresh_per_second=2))
        self._active.enter_context(logs_above_bars(hidden=is_routine))

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self.display is None:
            return
        self.display.done = runner.iter + 1
        self.display.eta = runner.message_hub.get_info('eta', None)
        if self.every_n_train_iters(runner, self.interval) or not self.display.numbers:
            self.display.numbers = iteration_numbers(current_values(runner))

    def after_train(self, runner) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the display; safe to call at any time, also after an error."""
        self._active.close()
        self.display = None


def current_values(runner) -> dict[str, float]:
    """The means of what the last iterations have logged, the speed and the memory, for :func:`iteration_numbers`."""
    histories = runner.message_hub.log_scalars
    wanted = ('train/loss', 'train/logits_', 'train/time', 'train/data_time')
    values = {key[6:]: history.mean(_WINDOW) for key, history in histories.items() if key.startswith(wanted)}
    values.update({key[6:]: histories[key].current() for key in ('train/skipped_steps', 'train/diversity') if key in histories})
    others = dict(images_per_second=runner.message_hub.get_info('images_per_second', None), memory=memory_in_use())
    return {**values, **{name: value for name, value in others.items() if value is not None}}


def is_routine(record) -> bool:
    """Whether the display says what a log record does, or nobody needs to see it twice."""
    return isinstance(record.msg, IterationLine) or str(record.msg).startswith('Exp name: ')
