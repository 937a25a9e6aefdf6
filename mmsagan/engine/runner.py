"""MMEngine's runner, resuming with care."""

import logging
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmsagan.checkpoints.io import LAST_CHECKPOINT, find_latest_checkpoint
from mmsagan.engine.hooks.checkpoint import CheckpointHook
from mmsagan.errors import CheckpointError, MMSAGANError
from mmsagan.registry import RUNNERS
from mmsagan.utils.distributed import from_main_process

AUTO = 'auto'
_MOST_LINES = 10  # of a message that is worth showing
# What MMEngine says about its own code.
_NOT_FOR_USERS = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')


@RUNNERS.register_module()
class GANRunner(Runner):
    """MMEngine's runner, which resumes from the newest checkpoint that is whole.

    With ``resume='auto'`` in the config, or ``resume=True`` without ``load_from``, it looks for one in the work dir. Without
    any there, the training begins anew, from the weights in ``load_from`` if that is given.

    A checkpoint that cannot be resumed from is the user's to mend, and no bug: the error names the file.

    The log's file has everything. What the output shows leaves out the hundreds of lines of the environment, the config and the
    hooks.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Builds the logger, see ``mmengine.runner.Runner.build_logger``."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_worth_showing)
        logger.info(f'the environment, the config and the hooks are in {Path(self.log_dir, f"{self.timestamp}.log")}')
        return logger

    def load_or_resume(self) -> None:
        """Loads or resumes, as the config says.

        Raises:
            CheckpointError: There are checkpoints to resume from, and none is whole; or the one that is named does not fit.
        """
        hook = next((hook for hook in self.hooks if isinstance(hook, CheckpointHook)), None)
        is_auto = self._resume == AUTO or (self._resume and self._load_from is None)
        if is_auto and not self._has_loaded and hook is not None:
            self._find_newest(hook)
        super().load_or_resume()

    def _find_newest(self, hook: CheckpointHook) -> None:
        folder = hook.folder(self)
        pointer = Path(self.work_dir, LAST_CHECKPOINT)
        path, damaged = from_main_process(lambda: find_latest_checkpoint(folder, hook.filename_tmpl, pointer))
        for error in damaged:
            self.logger.warning(f'{error}; resuming from an older one, {path}')
        self._resume = path is not None
        if path is not None:
            self._load_from = str(path)
            return
        start = f'from the weights of {self._load_from}' if self._load_from else 'with new weights'
        self.logger.warning(f'nothing to resume from in {folder}: the training begins anew, {start}')

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Loads weights, optimizers, schedules and log of a checkpoint; see ``mmengine.runner.Runner.resume``.

        Raises:
            CheckpointError: It is damaged, or of another training.
        """
        try:
            super().resume(filename, *args, **kwargs)
            self._check_iteration()
        except MMSAGANError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f'{filename} cannot be resumed from: {type(error).__name__}: {error}') from error

    def _check_iteration(self) -> None:
        loop = self.train_loop
        if type(loop.iter) is not int or type(loop.epoch) is not int or min(loop.iter, loop.epoch) < 0:
            raise ValueError(f'it was saved at iteration {loop.iter!r}, epoch {loop.epoch!r}')


def _is_worth_showing(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    is_long = record.levelno <= logging.INFO and message.count('\n') >= _MOST_LINES
    return not is_long and not message.startswith(_NOT_FOR_USERS)
