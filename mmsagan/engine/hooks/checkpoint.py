"""Saving checkpoints that are complete and can be resumed from exactly."""

import os
from collections import deque
from numbers import Real
from pathlib import Path

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook

from mmsagan.checkpoints.io import LAST_CHECKPOINT
from mmsagan.engine.hooks.logging import flush
from mmsagan.engine.loops import EVALUATED, GANTrainLoop
from mmsagan.errors import StorageError
from mmsagan.registry import HOOKS
from mmsagan.utils.files import remove_unfinished, write_atomically
from mmsagan.utils.processes import from_main_process

STATE = 'training_state'  # key in a checkpoint


class AtomicBackend(LocalBackend):
    """MMEngine's ``'local'`` backend, with files written whole or not at all and flushed to the disk."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(filepath, obj)


register_backend('atomic', AtomicBackend, force=True)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's hook of the same name, which never leaves the work dir without an intact checkpoint.

    * Checkpoints are written to another file, flushed and renamed. Outdated ones are removed afterwards, not before.
    * They contain what exact resuming needs, see :meth:`~mmsagan.engine.loops.GANTrainLoop.state_dict`.
    * If one cannot be written, for example on a full disk, the training continues and tries again at the next interval.
    * No file outside the run's own folder is written or removed, whatever paths a resumed checkpoint contains.

    After ``max_failures`` checkpoints in a row that cannot be written, the training ends with a StorageError.
    """

    def __init__(self, *args, max_failures: int = 3, **kwargs):
        super().__init__(*args, **kwargs)
        self.max_failures = max_failures
        self._failures = 0
        self._last_step: int | None = None
        self._state: dict | None = None

    def before_train(self, runner) -> None:
        is_local = '://' not in str(self.out_dir or runner.work_dir) and self.file_client_args is None
        if is_local and (self.backend_args or {}).get('backend', 'local') == 'local':
            self.backend_args = dict(backend='atomic')
        info = runner.message_hub.runtime_info  # of a resumed checkpoint, which may be another run's, or forged
        if 'keep_ckpt_ids' in info:
            kept = info['keep_ckpt_ids'] if isinstance(info['keep_ckpt_ids'], (list, tuple)) else []
            info['keep_ckpt_ids'] = [step for step in kept if type(step) is int]
        super().before_train(runner)
        for key in [key for key in info if key.startswith('best_ckpt')]:
            self._settle_best(runner, key)
        own = self._path(self.filename_tmpl.format(runner.iter))
        if runner._resume and runner._load_from is not None and Path(own).absolute() == Path(runner._load_from).absolute():
            self.last_ckpt, self._last_step = own, runner.iter
        folders = {Path(self.out_dir), Path(runner.work_dir), Path(runner.work_dir, 'samples')}
        for path in sum(map(remove_unfinished, folders), []) if is_main_process() else ():
            runner.logger.info(f'removed {path}, which an earlier run has left unfinished')

    def _settle_best(self, runner, key: str) -> None:
        """Replaces a recorded best checkpoint by its file in the own folder; that of another run is copied, or forgotten."""
        info, score_key = runner.message_hub.runtime_info, key.replace('best_ckpt', 'best_score')
        name = Path(info[key]).name if isinstance(info[key], str) else ''
        path, resumed_from = self._path(name), str(runner._load_from) if runner._resume else '://'

        def settle() -> str | None:
            if not name.startswith('best_') or not isinstance(info.get(score_key), Real):
                return 'the checkpoint names no best one, or no score of it'
            source = None if '://' in resumed_from else Path(resumed_from).with_name(name)
            try:
                if source and source.is_file() and not (self.file_backend.isfile(path) and source.samefile(path)):
                    self.file_backend.put(source.read_bytes(), path)
                    runner.logger.info(f'the best checkpoint so far is copied from {source}')
                return None if self.file_backend.isfile(path) else 'it is neither in this run nor beside the resumed checkpoint'
            except OSError as error:
                return f'it cannot be copied: {error.strerror or error}'

        reason = from_main_process(settle)
        if reason is not None:
            runner.logger.warning(f'the best checkpoint so far, {name}, is forgotten: {reason}')
            info.pop(key), info.pop(score_key, None)
        else:
            info[key] = path
        # What MMEngine publishes after the last iteration.
        if key == 'best_ckpt':
            self.best_ckpt_path = info.get(key)
        elif key.removeprefix('best_ckpt_') in getattr(self, 'best_ckpt_path_dict', ()):
            self.best_ckpt_path_dict[key.removeprefix('best_ckpt_')] = info.get(key)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume and isinstance(runner._train_loop, GANTrainLoop):
            runner.train_loop.load_state_dict(checkpoint.get(STATE))

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self._state is not None:
            checkpoint[STATE] = self._state

    def save_now(self, runner) -> Path | None:
        """Saves the state between two iterations unless it is saved; returns the file, None if it cannot be written."""
        if self._last_step != runner.iter:
            self._save_checkpoint_with_step(runner, runner.iter, dict(epoch=runner.epoch, iter=runner.iter))
        return Path(self.last_ckpt) if self._last_step == runner.iter else None

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        flush(runner)
        path = self._path(self.filename_tmpl.format(step))
        kept = [other for other in getattr(self, 'keep_ckpt_ids', ()) if other != step] + [step]
        outdated = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', kept[len(outdated) :])
        runner.message_hub.update_info('last_ckpt', path)
        # Gathered from all processes, although only the first one writes.
        self._state = runner.train_loop.state_dict() if isinstance(runner.train_loop, GANTrainLoop) else None
        with_schedulers = self.save_param_scheduler and runner.param_schedulers is not None
        failure = self._write(runner, path, meta, self.save_optimizer, with_schedulers)
        self._state = None
        if failure is not None:
            self._failures += 1
            last = f'the last good one is {self.last_ckpt}' if self.last_ckpt else 'there is none yet'
            if self._failures >= self.max_failures:
                count = f'attempt {self._failures} of default_hooks.checkpoint.max_failures={self.max_failures}'
                remedy = 'make room or choose another work dir, and continue with --resume'
                raise StorageError(f'{failure}; that was {count}; {remedy}: {last}')
            runner.logger.warning(f'{failure}; {last}. The training continues, and tries again at the next interval')
            return
        self._failures = 0
        self.last_ckpt, self._last_step = path, step
        if is_main_process():
            try:
                write_atomically(Path(runner.work_dir, LAST_CHECKPOINT), os.fsencode(path))
            except OSError as error:  # a resumed training then goes by the names and times of the checkpoints
                runner.logger.warning(f'{LAST_CHECKPOINT} cannot be written: {error.strerror or error}')
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(kept[len(outdated) :])
        for old in outdated:
            self._remove(runner, self.filename_tmpl.format(old))

    def _path(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)

    def _write(self, runner, path: str, meta: dict, save_optimizer: bool, save_param_scheduler: bool) -> str | None:
        """Writes a checkpoint on the first process; returns the reason on all of them if it cannot be written."""

        def write() -> str | None:
            saved = dict(save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler, meta=meta)
            saved.update(by_epoch=self.by_epoch, backend_args=self.backend_args, **self.args)
            try:
                runner.save_checkpoint(self.out_dir, Path(path).name, self.file_client_args, **saved)
            except OSError as error:
                return f'{path} cannot be written: {error.strerror or error}'
            return None

        return from_main_process(write)

    @master_only
    def _remove(self, runner, name: str) -> None:
        """Removes a file from the run's own folder; all that this hook removes goes through here."""
        path = self._path(Path(name).name)
        try:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
        except OSError as error:
            runner.logger.warning(f'the outdated checkpoint {path} cannot be removed: {error.strerror or error}')

    def after_val_epoch(self, runner, metrics: dict) -> None:
        """Saves the best checkpoints, and records in the last one that its iteration is evaluated."""
        super().after_val_epoch(runner, metrics)
        runner.message_hub.update_info(EVALUATED, runner.iter)
        if not self.by_epoch and self._last_step == runner.iter:
            self._save_checkpoint_with_step(runner, runner.iter, dict(epoch=runner.epoch, iter=runner.iter))

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        """Saves the model for each result that is the best so far, and only then removes the previous best one."""
        if 'auto' in (self.save_best or ()):
            self._init_rule(self.rules, [next(iter(metrics))])
        info, step = runner.message_hub.runtime_info, runner.epoch if self.by_epoch else runner.iter
        for key, rule in zip(self.key_indicators, self.rules) if self.save_best else ():
            suffix = '' if len(self.key_indicators) == 1 else f'_{key}'  # as MMEngine, so that its checkpoints can be resumed
            score, previous = metrics[key], info.get(f'best_ckpt{suffix}')
            best = info.get(f'best_score{suffix}', self.init_value_map[rule])
            if score is None or not self.is_better_than[key](score, best):
                continue
            path = self._path(f'best_{key}_{self.filename_tmpl.format(step)}'.replace('/', '_'))
            failure = self._write(runner, path, dict(epoch=runner.epoch, iter=runner.iter), False, False)
            if failure is not None:
                runner.logger.warning(f'{failure}; the best so far stays {previous}')
                continue
            runner.message_hub.update_info(f'best_score{suffix}', score)
            runner.message_hub.update_info(f'best_ckpt{suffix}', path)
            if suffix:
                self.best_ckpt_path_dict[key] = path
            else:
                self.best_ckpt_path = path
            runner.logger.info(f'The best checkpoint with {score:0.4f} {key} at {step} is saved to {Path(path).name}.')
            if previous and Path(previous).name != Path(path).name:  # not the one just written, in a repeated evaluation
                self._remove(runner, previous)
