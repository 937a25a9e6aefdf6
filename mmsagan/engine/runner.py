"""MMEngine's runner, which resumes from intact checkpoints only."""

import logging
from contextlib import suppress
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmsagan.checkpoints.io import LAST_CHECKPOINT, find_latest_checkpoint
from mmsagan.engine.hooks.checkpoint import CheckpointHook
from mmsagan.errors import CheckpointError, MMSAGANError
from mmsagan.registry import RUNNERS
from mmsagan.utils.processes import from_main_process


@RUNNERS.register_module()
class GANRunner(Runner):
    """MMEngine's runner, which passes over damaged checkpoints when it resumes, and prints less.

    With ``resume='auto'``, or ``resume=True`` without ``load_from``, it resumes from the newest intact checkpoint in the work
    dir. Without any, the training starts from the beginning, from the weights in ``load_from`` if it is set.

    Messages of many lines (the environment, the config, the hooks) are written to the log file and not to the terminal.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        def is_for_terminal(record: logging.LogRecord) -> bool:
            message = record.getMessage()
            is_long = record.levelno <= logging.INFO and message.count('\n') >= 10
            # MMEngine warns of its own use of these.
            return not is_long and not message.startswith(('"FileClient" will be deprecated', '"HardDiskBackend" is the alias'))

        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            with suppress(AttributeError):  # a notebook's
                handler.stream.reconfigure(errors='backslashreplace')  # names of files need not be UTF-8
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_for_terminal)
        logger.info(f'the environment, the config and the hooks are in {Path(self.log_dir, f"{self.timestamp}.log")}')
        return logger

    def load_or_resume(self) -> None:
        """Loads or resumes as the config says; a CheckpointError if all checkpoints are damaged, or the one given is."""
        hook = next((hook for hook in self.hooks if isinstance(hook, CheckpointHook)), None)
        is_auto = self._resume == 'auto' or (self._resume and self._load_from is None)
        if is_auto and not self._has_loaded and hook is not None:
            work_dir = Path(self.work_dir)
            folder = work_dir if hook.out_dir in (None, self.work_dir) else Path(hook.out_dir, work_dir.name)
            pointer = work_dir / LAST_CHECKPOINT
            path, damaged = from_main_process(lambda: find_latest_checkpoint(folder, hook.filename_tmpl, pointer))
            for error in damaged:
                self.logger.warning(f'{error}; resuming from an older one, {path}')
            self._resume = path is not None
            if path is not None:
                self._load_from = str(path)
            else:
                start = f'from the weights of {self._load_from}' if self._load_from else 'with new weights'
                self.logger.warning(f'nothing to resume from in {folder}: the training starts from the beginning, {start}')
        super().load_or_resume()

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Loads all of a checkpoint; a CheckpointError if it is damaged, or of another training."""
        try:
            if self.param_schedulers is None and not args:  # MMEngine warns that there is none
                kwargs['resume_param_scheduler'] = False
            super().resume(filename, *args, **kwargs)
            for count in (self.train_loop.iter, self.train_loop.epoch):
                if type(count) is not int or count < 0:
                    raise ValueError(f'it was saved at iteration {self.train_loop.iter!r}, epoch {self.train_loop.epoch!r}')
        except MMSAGANError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f'{filename} cannot be resumed from: {type(error).__name__}: {error}') from error
