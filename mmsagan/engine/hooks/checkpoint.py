"""Saving checkpoints that a training can go on from, exactly, whatever happens to it."""

from collections import deque
from pathlib import Path

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook

from mmsagan.checkpoints.io import LAST_CHECKPOINT, list_checkpoints
from mmsagan.engine.file_backend import CRASH_SAFE
from mmsagan.engine.train_loop import EVALUATED, GANTrainLoop
from mmsagan.errors import ConfigError, StorageError
from mmsagan.registry import HOOKS
from mmsagan.utils.distributed import from_main_process
from mmsagan.utils.files import remove_unfinished, write_atomically

STATE = 'training_state'


@master_only
def point_to(runner, path: str | Path) -> None:
    """Names a checkpoint as the newest one of a run, in MMEngine's file for that."""
    try:
        write_atomically(Path(runner.work_dir, LAST_CHECKPOINT), str(path).encode())
    except OSError as error:  # without it, a resumed training goes by the names and times of the checkpoints
        runner.logger.warning(f'{LAST_CHECKPOINT} cannot be written: {error.strerror or error}')


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's hook of the same name, with whose arguments it is configured, made to lose nothing.

    * A checkpoint is written beside the ones that are there, flushed and renamed; older ones are removed afterwards.
    * It holds what exact resuming needs, see :meth:`~mmsagan.engine.train_loop.GANTrainLoop.state`.
    * Where it cannot be written, for a full disk for instance, the training goes on, and tries again at the next interval.

    Args:
        *args: See ``mmengine.hooks.CheckpointHook``.
        max_failures: So many checkpoints in a row that cannot be written end the training.
        **kwargs: See ``mmengine.hooks.CheckpointHook``.

    Raises:
        ConfigError: ``max_failures`` is no number of at least 1.
        StorageError: Too many checkpoints in a row cannot be written.
    """

    def __init__(self, *args, max_failures: int = 3, **kwargs):
        super().__init__(*args, **kwargs)
        if not isinstance(max_failures, int) or max_failures < 1:
            raise ConfigError(f'CheckpointHook: max_failures must be a whole number of at least 1, got {max_failures!r}')
        self.max_failures = max_failures
        self._failures = 0
        self._last_step: int | None = None
        self._state: dict | None = None

    # ---------------------------------------------------------------------------------------------------- before training

    def folder(self, runner) -> Path:
        """Where the checkpoints go: the work dir, or a folder of its name in ``out_dir``."""
        return (
            Path(runner.work_dir) if self.out_dir in (None, runner.work_dir) else Path(self.out_dir, Path(runner.work_dir).name)
        )

    def before_train(self, runner) -> None:
        is_local = '://' not in str(self.out_dir or runner.work_dir) and self.file_client_args is None
        if is_local and (self.backend_args or {}).get('backend', 'local') == 'local':
            self.backend_args = dict(backend=CRASH_SAFE)
        super().before_train(runner)
        own = self._path(self.filename_tmpl.format(runner.iter))
        if runner._resume and runner._load_from is not None and Path(own).absolute() == Path(runner._load_from).absolute():
            self.last_ckpt, self._last_step = own, runner.iter
        if is_main_process():
            self._tidy(runner)

    def _tidy(self, runner) -> None:
        for folder in {Path(self.out_dir), Path(runner.work_dir), Path(runner.work_dir, 'samples')}:
            for left in remove_unfinished(folder):
                runner.logger.info(f'removed {left}, which an earlier run has left unfinished')
        reached = runner.epoch if self.by_epoch else runner.iter
        earlier = [path.name for step, path in list_checkpoints(self.out_dir, self.filename_tmpl) if step > reached]
        if earlier:
            runner.logger.warning(
                f'{self.out_dir} holds later checkpoints of an earlier run, {", ".join(earlier[:3])}'
                f'{", ..." if len(earlier) > 3 else ""}, which this one will replace when it gets there'
            )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume and isinstance(runner._train_loop, GANTrainLoop):
            runner.train_loop.resume(checkpoint.get(STATE))

    # ------------------------------------------------------------------------------------------------------------- saving

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self._state is not None:
            checkpoint[STATE] = self._state

    def save_now(self, runner) -> Path | None:
        """Saves the state between two iterations, unless that is done; gives the file, None if it cannot be written."""
        if self._last_step != runner.iter:
            self._save_checkpoint_with_step(runner, runner.iter, dict(epoch=runner.epoch, iter=runner.iter))
        return Path(self.last_ckpt) if self._last_step == runner.iter else None

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        path = self._path(self.filename_tmpl.format(step))
        kept = [other for other in getattr(self, 'keep_ckpt_ids', ()) if other != step] + [step]
        outdated = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', kept[len(outdated) :])
        runner.message_hub.update_info('last_ckpt', path)
        # Of all processes, though only one of them writes.
        self._state = runner.train_loop.state() if isinstance(runner.train_loop, GANTrainLoop) else None
        with_schedule = self.save_param_scheduler and runner.param_schedulers is not None
        failure = self._write(runner, path, meta, self.save_optimizer, with_schedule)
        self._state = None
        if failure is not None:
            self._take_note_of(failure, runner)
            return
        point_to(runner, path)
        self._failures = 0
        self.last_ckpt, self._last_step = path, step
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(kept[len(outdated) :])
        for old in outdated:
            self._remove(runner, self._path(self.filename_tmpl.format(old)))

    def _path(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)

    def _write(self, runner, path: str, meta: dict, save_optimizer: bool, save_param_scheduler: bool) -> str | None:
        """Has the first process write a checkpoint; gives all of them what went wrong, if something did."""

        def write() -> str | None:
            try:
                runner.save_checkpoint(
                    self.out_dir,
                    Path(path).name,
                    self.file_client_args,
                    save_optimizer=save_optimizer,
                    save_param_scheduler=save_param_scheduler,
                    meta=meta,
                    by_epoch=self.by_epoch,
                    backend_args=self.backend_args,
                    **self.args,
                )
            except OSError as error:
                return f'{path} cannot be written: {error.strerror or error}'
            return None

        return from_main_process(write)

    def _take_note_of(self, failure: str, runner) -> None:
        self._failures += 1
        last = f'the last good one is {self.last_ckpt}' if self.last_ckpt else 'there is none yet'
        if self._failures >= self.max_failures:
            raise StorageError(
                f'{failure}; that was attempt {self._failures} of default_hooks.checkpoint.max_failures={self.max_failures}. '
                f'Make room or choose another work dir, and go on with --resume: {last}'
            )
        runner.logger.warning(f'{failure}; {last}. The training goes on, and tries again at the next interval')

    def _remove(self, runner, path: str) -> None:
        if not is_main_process():
            return
        try:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
        except OSError as error:
            runner.logger.warning(f'the outdated checkpoint {path} cannot be removed: {error.strerror or error}')

    # --------------------------------------------------------------------------------------------------- best checkpoints

    def after_val_epoch(self, runner, metrics: dict) -> None:
        """Keeps a best checkpoint, and notes in the last one that its iteration is evaluated."""
        super().after_val_epoch(runner, metrics)
        runner.message_hub.update_info(EVALUATED, runner.iter)
        if not self.by_epoch and self._last_step == runner.iter:
            self._save_checkpoint_with_step(runner, runner.iter, dict(epoch=runner.epoch, iter=runner.iter))

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if 'auto' in (self.save_best or ()):
            self._init_rule(self.rules, [next(iter(metrics))])
        for key, rule in zip(self.key_indicators, self.rules) if self.save_best else ():
            self._keep_if_best(runner, key, rule, metrics[key])

    def _keep_if_best(self, runner, key: str, rule: str, score: float | None) -> None:
        """Saves the model if a result is the best so far, and only then removes the one that was."""
        suffix = '' if len(self.key_indicators) == 1 else f'_{key}'  # MMEngine's names, so that either can go on from the other
        info = runner.message_hub.runtime_info
        previous = info.get(f'best_ckpt{suffix}')
        if score is None or not self.is_better_than[key](score, info.get(f'best_score{suffix}', self.init_value_map[rule])):
            return
        step = runner.epoch if self.by_epoch else runner.iter
        path = self._path(f'best_{key}_{self.filename_tmpl.format(step)}'.replace('/', '_'))
        failure = self._write(runner, path, dict(epoch=runner.epoch, iter=runner.iter), False, False)
        if failure is not None:
            runner.logger.warning(f'{failure}; the best so far stays {previous}')
            return
        runner.message_hub.update_info(f'best_score{suffix}', score)
        runner.message_hub.update_info(f'best_ckpt{suffix}', path)
        if suffix:
            self.best_ckpt_path_dict[key] = path
        else:
            self.best_ckpt_path = path
        runner.logger.info(f'The best checkpoint with {score:0.4f} {key} at {step} is saved to {Path(path).name}.')
        if previous and previous != path:
            self._remove(runner, previous)
