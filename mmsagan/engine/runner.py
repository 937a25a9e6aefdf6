"""MMEngine's runner, resuming with care."""

from mmengine.runner import Runner

from mmsagan.checkpoints.newest import newest_whole_checkpoint
from mmsagan.engine.hooks.checkpoint import CheckpointHook
from mmsagan.errors import CheckpointError, MMSAGANError
from mmsagan.registry import RUNNERS
from mmsagan.utils.distributed import from_main_process


@RUNNERS.register_module()
class GANRunner(Runner):
    """MMEngine's runner, which resumes from the newest checkpoint that is whole.

    A checkpoint that cannot be resumed from is the user's to mend, and no bug: the error names the file.
    """

    def load_or_resume(self) -> None:
        """Loads or resumes, as the config says.

        Raises:
            CheckpointError: There are checkpoints to resume from, and none is whole; or the one that is named does not fit.
        """
        hook = next((hook for hook in self.hooks if isinstance(hook, CheckpointHook)), None)
        if self._resume and self._load_from is None and not self._has_loaded and hook is not None:
            self._find_newest(hook)
        super().load_or_resume()

    def _find_newest(self, hook: CheckpointHook) -> None:
        folder = hook.folder(self)
        path, damaged = from_main_process(lambda: newest_whole_checkpoint(folder, hook.filename_tmpl))
        for error in damaged:
            self.logger.warning(f'{error}; resuming from an older one, {path}')
        if path is None:
            self.logger.warning(f'nothing to resume from in {folder}: the training begins anew')
        self._load_from = None if path is None else str(path)
        self._resume = path is not None

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
