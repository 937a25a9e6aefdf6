"""A live progress bar for training."""

from contextlib import ExitStack

import rich
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mmsagan.registry import HOOKS
from mmsagan.utils.progress import logs_above_bars


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows iterations, speed, losses and the time left below the log, when the output is a terminal.

    Elsewhere (a file, CI) it shows nothing: the logger's lines say the same.

    Args:
        interval: Iterations between two updates of the numbers.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 5):
        self.interval = interval
        self._progress: Progress | None = None
        self._logs = ExitStack()

    def before_train(self, runner) -> None:
        console = rich.get_console()  # shared with other bars, which are drawn below this one
        if not (is_main_process() and console.is_terminal):
            return
        self._progress = Progress(
            TextColumn('[bold]training'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[numbers]}'),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task('', total=runner.max_iters, completed=runner.iter, numbers='')
        self._progress.start()
        self._logs.enter_context(logs_above_bars())

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._progress is None:
            return
        numbers = self._progress.tasks[0].fields['numbers']
        if self.every_n_train_iters(runner, self.interval):
            scalars = runner.message_hub.log_scalars
            seconds = scalars['train/time'].mean(20) if 'train/time' in scalars else float('nan')
            losses = ' '.join(
                f'{name} {scalars[f"train/loss_{name}"].current():.3f}'
                for name in ('disc', 'gen')
                if f'train/loss_{name}' in scalars
            )
            numbers = f'{seconds:.2f} s/it  loss {losses}'
        self._progress.update(self._task, completed=runner.iter + 1, numbers=numbers)

    def after_train(self, runner) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bar away; safe to call at any time, also after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._logs.close()
