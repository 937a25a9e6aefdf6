"""Keeping a page about the training in its work dir."""

import time
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from mmsagan.checkpoints.io import LAST_CHECKPOINT
from mmsagan.engine.config_changes import Changes
from mmsagan.engine.hooks.checkpoint import CheckpointHook
from mmsagan.engine.hooks.collapse import WARNINGS
from mmsagan.engine.logs import read_curves
from mmsagan.engine.loops import GANValLoop
from mmsagan.engine.summary import CURVES, NAME, Best, Summary, best_of, curves_picture, machine_line, progress_sentence
from mmsagan.engine.visualizer import LocalVisBackend
from mmsagan.errors import ConfigError, DataError, TrainingInterrupted
from mmsagan.registry import HOOKS
from mmsagan.utils.files import write_atomically
from mmsagan.utils.modules import unwrap
from mmsagan.utils.text import duration
from mmsagan.visualization.curves import Curve

_SECONDS = 'training_seconds'  # in a checkpoint's meta: how long the training has taken, with all its runs


@HOOKS.register_module()
class SummaryHook(Hook):
    """Writes ``summary.md`` and ``curves.png`` into the work dir, and refreshes them as the training goes on.

    The page says how far the training is, its best and last scores, what its config changes of what it inherits, and where its
    files are, with its newest pictures; :class:`~mmsagan.engine.summary.Summary` lists all. It is written after the first
    iteration, every ``interval`` iterations, after each evaluation and checkpoint, and at the end, whatever the end is. The
    curves, of all runs in the work dir, are drawn after evaluations, or checkpoints if there are none, and at the end.

    A page that cannot be written is worth a warning. Only the first process writes.

    Args:
        interval: Iterations between two refreshments of the page in any case.

    Attributes:
        changes: What :func:`~mmsagan.engine.config_changes.changes_of_training` gives; None if nobody has said it.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 1000):
        if interval < 1:
            raise ConfigError(f'SummaryHook: interval must be at least 1, got {interval}')
        self.interval = interval
        self.changes: tuple[list[str], Changes, Changes] | None = None
        self._began = time.monotonic()
        self._seconds_before = 0.0
        self._is_begun = False
        self._last_checkpoint: str | None = None
        self._failing: set[str] = set()  # files that could not be written the last time
        self._points_drawn = 0

    # ------------------------------------------------------------------------------------------------ how long it has taken

    def seconds(self) -> float:
        """How long the training has taken, with the runs that this one goes on from."""
        return self._seconds_before + time.monotonic() - self._began

    def before_train(self, runner) -> None:
        self._began = time.monotonic()
        self._last_checkpoint = runner.message_hub.get_info('last_ckpt', None)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['meta'][_SECONDS] = self.seconds()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        seconds = checkpoint.get('meta', {}).get(_SECONDS)
        if runner._resume and isinstance(seconds, float) and not self._is_begun:  # not when it goes back to a checkpoint
            self._seconds_before = seconds

    # --------------------------------------------------------------------------------------------------------- when to write

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        newest = runner.message_hub.get_info('last_ckpt', None)
        has_saved, self._last_checkpoint = newest != self._last_checkpoint, newest
        if not self._is_begun or has_saved or self.every_n_train_iters(runner, self.interval):
            self._is_begun = True
            self.refresh(runner, runner.iter + 1, with_curves=has_saved and runner.val_loop is None)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        self.refresh(runner, runner.iter)

    def after_train(self, runner) -> None:
        now = time.strftime('%Y-%m-%d %H:%M:%S')
        state = f'**Finished**: {runner.iter} iterations, after {duration(self.seconds())}, at {now}.'
        self.refresh(runner, runner.iter, state)

    def stopped(self, runner, error: BaseException) -> None:
        """Says that and why the training has ended early, unless it had not begun.

        Args:
            runner: The runner.
            error: What has ended it.
        """
        if not self._is_begun:
            return
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        state = f'**Stopped** at iteration {runner.iter} of {runner.max_iters}, after {duration(self.seconds())}'
        if not isinstance(error, TrainingInterrupted):
            state = state.replace('Stopped', 'Failed', 1)
        self.refresh(runner, runner.iter, f'{state}, at {time.strftime("%Y-%m-%d %H:%M:%S")}: {first_line}.')

    # --------------------------------------------------------------------------------------------------------------- writing

    def refresh(self, runner, iteration: int, state: str | None = None, with_curves: bool = True) -> None:
        """Writes the page.

        Args:
            runner: The runner.
            iteration: How many are done.
            state: A sentence on the training's state; None: it is training.
            with_curves: Whether to draw the curves anew.
        """
        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        try:
            curves = read_curves(folder)
        except DataError:  # nothing logged yet, or no LocalVisBackend
            curves = {}
        if with_curves:
            self._draw(runner, curves, folder / CURVES)
        page = self.summary(runner, iteration, curves, state).to_markdown(folder)
        self._write(runner, folder / NAME, page.encode())

    def _draw(self, runner, curves: dict[str, Curve], path: Path) -> None:
        points = sum(len(steps) for steps, _ in curves.values())
        picture = curves_picture(curves) if points != self._points_drawn else None
        if picture is not None and self._write(runner, path, picture):
            self._points_drawn = points

    def _write(self, runner, path: Path, data: bytes) -> bool:
        try:
            write_atomically(path, data)
        except OSError as error:
            if path.name not in self._failing:  # once, until it works again
                runner.logger.warning(f'{path.name} cannot be written, and the training goes on: {error.strerror or error}')
            self._failing.add(path.name)
            return False
        self._failing.discard(path.name)
        return True

    def summary(self, runner, iteration: int, curves: dict[str, Curve], state: str | None = None) -> Summary:
        """What the page says; the arguments are those of :meth:`refresh`."""
        info = runner.message_hub.runtime_info
        if state is None:
            state = progress_sentence(
                iteration, runner.max_iters, self.seconds(), info.get('eta'), info.get('images_per_second')
            )
        bases, of_file, given = self.changes or (None, {}, {})
        best = best_results(runner, curves)
        return Summary(
            title=_title(runner),
            state=state,
            notes=_notes(info),
            curves=curves if Path(runner.work_dir, CURVES).is_file() else {},
            best=best,
            pictures=newest_pictures(runner, iteration),
            bases=bases,
            of_file=of_file,
            of_command_line=given,
            files=_files(runner, best),
            machine=machine_line(_device(runner), get_world_size(), runner.seed),
        )


def best_results(runner, curves: dict[str, Curve]) -> dict[str, Best]:
    """By name, the best results of the metrics that say what is better, and the checkpoints that were kept of them."""
    loop = runner._val_loop
    rules = loop.evaluator.best_rules if isinstance(loop, GANValLoop) else {}
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    best = {}
    for name, rule in rules.items():
        found = best_of(curves[name], rule) if name in curves else None
        if found is not None:
            iteration, value = found
            file = f'best_{name}_{hook.filename_tmpl.format(iteration)}'.replace('/', '_') if hook is not None else None
            path = Path(hook.out_dir or runner.work_dir, file) if file else None
            best[name] = Best(rule, value, iteration, path if path is not None and path.is_file() else None)
    return best


def newest_pictures(runner, until: int) -> dict[str, tuple[int, Path]]:
    """By name, the iterations and the files of the newest sample grids and attention figures."""
    backends = getattr(runner.visualizer, 'backends', [])
    local = next((backend for backend in backends if isinstance(backend, LocalVisBackend)), None)
    return local.newest_pictures(until) if local is not None else {}


def _title(runner) -> str:
    return Path(runner.cfg.filename).stem if runner.cfg.filename else Path(runner.work_dir).resolve().name


def _notes(info: dict) -> list[str]:
    notes = []
    divergence = info.get('divergence', {})
    if divergence.get('skipped'):
        notes.append(f'{divergence["skipped"]} updates were skipped, since their loss or gradient was not finite.')
    if divergence.get('rollbacks'):
        notes.append(f'The training has diverged, and gone back to a checkpoint, {divergence["rollbacks"]} times.')
    warned = info.get(WARNINGS, {})
    if 'collapse' in warned:
        notes.append(f'The generator may have collapsed (iteration {warned["collapse"]}): look at the samples.')
    if 'discriminator' in warned:
        notes.append(f'The discriminator has told real from fake all the time (iteration {warned["discriminator"]}).')
    return notes


def _files(runner, best: dict[str, Best]) -> list[tuple[str, Path]]:
    folder, runs = Path(runner.work_dir), Path(runner.log_dir)
    pointer = folder / LAST_CHECKPOINT
    newest = Path(pointer.read_text().strip()) if pointer.is_file() else None
    files = [('newest checkpoint', newest)] if newest is not None else []
    files += [(f'best {name}', result.checkpoint) for name, result in best.items() if result.checkpoint is not None]
    files += [('sample grids and attention figures', folder / 'samples'), ('the config, complete', _config_file(runner))]
    files += [('log of this run', runs / f'{runner.timestamp}.log'), ('its numbers', runs / 'vis_data' / 'scalars.json')]
    files += [('curves', folder / CURVES)]
    return [(what, path) for what, path in files if path.exists()]


def _config_file(runner) -> Path:
    return Path(runner.work_dir, Path(runner.cfg.filename).name if runner.cfg.filename else f'{runner.timestamp}.py')


def _device(runner) -> torch.device:
    return next(unwrap(runner.model).parameters()).device
