"""MMEngine's runner, which resumes from intact checkpoints only."""

import logging
from contextlib import suppress
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader, Runner

from mmsagan.checkpoints import check_compatibility
from mmsagan.checkpoints.io import LAST_CHECKPOINT, find_latest_checkpoint, split_checkpoint
from mmsagan.checkpoints.transfer import InitFrom, transfer_weights
from mmsagan.engine.config import config_errors
from mmsagan.engine.hooks.checkpoint import CheckpointHook
from mmsagan.errors import CheckpointError
from mmsagan.models.gan import unwrap
from mmsagan.registry import RUNNERS
from mmsagan.utils.processes import from_main_process


@RUNNERS.register_module()
class GANRunner(Runner):
    """MMEngine's runner, which passes over damaged checkpoints when it resumes, and prints less.

    With ``resume='auto'``, or ``resume=True`` without ``load_from``, it resumes from the newest intact checkpoint in the work
    dir. Without any, the training starts from the beginning, from the weights in ``load_from`` or ``model.init_from``, if set.

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
        init_from = getattr(unwrap(self.model), 'init_from', None)
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
                source = self._load_from or (init_from and init_from['checkpoint'])
                start = f'from the weights of {source}' if source else 'with new weights'
                self.logger.warning(f'nothing to resume from in {folder}: the training starts from the beginning, {start}')
        if init_from and self._load_from is None and not self._has_loaded:
            self._transfer_weights(InitFrom(**init_from))
        super().load_or_resume()

    def _transfer_weights(self, start: InitFrom) -> None:
        """Copies what fits of another model's checkpoint. All processes read it, and get the same weights."""
        model, info = unwrap(self.model), getattr(self.train_dataloader.dataset, 'metainfo', None)
        loaded, meta = split_checkpoint(CheckpointLoader.load_checkpoint(start.checkpoint, 'cpu'))
        own, names = model.state_dict(), ((each or {}).get('classes') or () for each in (info, meta.get('dataset_meta')))
        with config_errors('model.init_from'):
            fitting = transfer_weights(own, loaded, start.class_embeddings, *names)
        for key, tensor in fitting.items():
            own[key].copy_(tensor)
        if model.generator_ema is not None:
            model.generator_ema.load_state_dict(unwrap(model.generator).state_dict())
        new = [key for key in own if key.startswith(('generator.', 'discriminator.')) and key not in fitting]
        log = self.logger.warning if new else self.logger.info
        log(f'{len(fitting)} tensors are from {start.checkpoint}; as initialized: {", ".join(new) or "none":.300}')
        for warning in check_compatibility(model, dict(state_dict=own, meta=meta), start.checkpoint):
            self.logger.warning(f'{start.checkpoint}: {warning}')

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Loads all of a checkpoint; a CheckpointError if it is damaged, or of another training."""
        try:
            if self.param_schedulers is None and not args:  # MMEngine warns that there is none
                kwargs['resume_param_scheduler'] = False
            super().resume(filename, *args, **kwargs)
            for count in (self.train_loop.iter, self.train_loop.epoch):
                if type(count) is not int or count < 0:
                    raise ValueError(f'it was saved at iteration {self.train_loop.iter!r}, epoch {self.train_loop.epoch!r}')
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f'{filename} cannot be resumed from: {type(error).__name__}: {error}') from error
