"""The loops that train, validate and test a GAN under MMEngine's runner."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import rich
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.loops import IterBasedTrainLoop
from torch import Tensor, nn
from torch.distributed import ReduceOp

from mmsagan.datasets.workers import GROUP_SIGNALS
from mmsagan.engine.data import TrainingBatches, seeded_loader
from mmsagan.errors import CheckpointError, ConfigError, StorageError, TrainingInterrupted
from mmsagan.evaluation import Evaluator, RealImages
from mmsagan.models.gan import unwrap
from mmsagan.registry import EVALUATOR, LOOPS
from mmsagan.utils.processes import from_main_process
from mmsagan.utils.progress import progress_bar
from mmsagan.utils.random_states import get_rng_states, set_rng_states

LOG_LENGTH = 10_000  # number of values kept of each logged quantity
EVALUATED = 'evaluated_iter'  # key in the message hub: the last iteration after which an evaluation was completed


@LOOPS.register_module()
class GANTrainLoop(IterBasedTrainLoop):
    """Trains iteration by iteration with evaluations in between, stops on signals, and resumes exactly.

    Takes the arguments of MMEngine's ``IterBasedTrainLoop``, which replays all batches when it resumes and does not restore the
    random number generators. Here, on the same machine and with the same number of processes, a resumed training sees the same
    images and computes the same weights, bit for bit, as one that was not interrupted.
    """

    def __init__(self, runner: Runner, dataloader: dict, **kwargs):
        seed = from_main_process(lambda: runner.seed)  # the same one on all ranks, so that one checkpoint serves them all
        super().__init__(runner, seeded_loader(dataloader, seed), **kwargs)
        # Some versions of MMEngine have started the workers already, at the wrong position.
        self.dataloader_iterator._iterator = self.dataloader._iterator = None
        self.batches = self.dataloader_iterator = TrainingBatches(self.dataloader)
        self.signals = StopSignals()
        self._loaded_state: dict | None = None

    def run(self) -> nn.Module:
        """Trains, and returns the model. If a signal, the data or an evaluation ends it early, the state is saved first."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        is_resumed = self._restore_state()
        processor = self.runner.log_processor
        windows = [processor.window_size, *(config.get('window_size') for config in processor.custom_cfg)]
        # MMEngine keeps a million values of each quantity, and copies them all for each new one.
        length = 1_000_000 if 'global' in windows else max([LOG_LENGTH, *(w for w in windows if isinstance(w, int))])
        self._first_iter = self._iter
        with self.signals, progress_bar('training', self._max_iters, self._iter) as advance:
            try:
                if is_resumed and self._is_evaluation_due():
                    self._evaluate()
                while self._iter < self._max_iters and not self.stop_training:
                    if not self.runner.model.training:
                        self.runner.model.train()
                    self.run_iter(self._next_batch())
                    advance(1)
                    self._decide_current_val_interval()
                    for buffer in self.runner.message_hub.log_scalars.values():
                        buffer.max_length = length
                    if self._is_evaluation_due():
                        self._evaluate()
                    if self.signals.received_by_any_process() and self._iter < self._max_iters:
                        self._save_and_stop()
            except RuntimeError as error:  # PyTorch raises it for a dead worker wherever the process is
                if explained := self.batches.explain(error):
                    raise explained from error
                raise
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _is_evaluation_due(self) -> bool:
        is_done = self.runner.message_hub.runtime_info.get(EVALUATED) == self._iter  # before the training was resumed
        if self.runner.val_loop is None or self._iter < self.val_begin or is_done:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters

    def _next_batch(self) -> Any:
        position = self.batches.num_batches
        try:
            # Several processes stop together; if one of them waits for ever, the launcher ends them all.
            with self.signals.interrupting(get_world_size() == 1):
                return next(self.dataloader_iterator)
        except Interrupted:
            self.batches.num_batches = position
            self._save_and_stop()
        except Exception as error:
            self.batches.num_batches = position
            self._save_and_raise(error, self.batches.explain(error))

    def _evaluate(self) -> None:
        loop = self.runner.val_loop
        if isinstance(loop, GANValLoop) and get_world_size() == 1:
            loop.should_stop = lambda: self.signals.received is not None
        try:
            loop.run()
        except Interrupted:
            self.runner.logger.info('the evaluation is interrupted; a resumed training repeats it')
            self._save_and_stop()
        except Exception as error:
            self._save_and_raise(error, self.batches.explain(error) if isinstance(error, RuntimeError) else None)

    def _save_and_raise(self, error: Exception, explained: Exception | None) -> NoReturn:
        """Saves the state of a training that has failed between two iterations, unless other processes may still train."""
        hook = next((hook for hook in self.runner.hooks if hasattr(hook, 'save_now')), None)
        if hook is not None and get_world_size() == 1 and self._iter > self._first_iter:
            self.batches.stop_workers()  # the death of others must not break off the writing
            hook.max_keep_ckpts = -1  # the state may be what has failed: the last good one stays
            with suppress(StorageError):  # which says no more than the log
                if saved := hook.save_now(self.runner):
                    self.runner.logger.warning(f'iteration {self._iter} is saved to {saved}; continue with --resume')
        if explained is not None:
            raise explained from error
        raise error

    def _save_and_stop(self) -> NoReturn:
        stopped = f'stopped by {self.signals.received or "a signal to another process"} after iteration {self._iter}'
        hook = next((hook for hook in self.runner.hooks if hasattr(hook, 'save_now')), None)
        if hook is None:
            raise TrainingInterrupted(f'{stopped}; nothing is saved, because the config has no CheckpointHook')
        saved = hook.save_now(self.runner)
        if saved is None:
            raise StorageError(f'{stopped}, which cannot be saved (see above); the last good checkpoint is {hook.last_ckpt}')
        raise TrainingInterrupted(f'{stopped}, saved to {saved}; continue with --resume')

    def state_dict(self) -> dict:
        """Returns what exact resuming needs besides weights and optimizers; a collective call."""
        return dict(random_states=all_gather_object(get_rng_states()), data=self.batches.state_dict())

    def load_state_dict(self, state: dict | None) -> None:
        """Takes the state of a checkpoint, None if it has none; it is restored when the training starts."""
        self._loaded_state = state or {}

    def _restore_state(self) -> bool:
        """Restores the position in the data and the random number generators; returns whether there was a state."""
        state, self._loaded_state = self._loaded_state, None
        if state is None:
            return False
        reasons = []
        try:
            # MMEngine's own checkpoints have no position; its loop takes one batch per iteration.
            self.batches.num_batches = self._iter
            reasons.append(self.batches.load_state_dict(state.get('data') or self.batches.state_dict()))
            rng_states = state.get('random_states') or []
            if len(rng_states) == get_world_size():
                set_rng_states(rng_states[get_rank()])
            elif rng_states:
                reasons.append(f'it ran on {len(rng_states)} processes, and this one runs on {get_world_size()}')
            else:
                reasons.append('the checkpoint has no states of random number generators')
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, CheckpointError) as error:
            raise CheckpointError(f'{self.runner._load_from}: the training state in it is damaged ({error})') from error
        if any(reasons):
            found = '; '.join(filter(None, reasons))
            self.runner.logger.warning(f'the resumed training is not, to the bit, the one that was interrupted: {found}')
        self._decide_current_val_interval()
        return bool(state)


class Interrupted(BaseException):
    """A signal has ended a wait or an evaluation; no ``Exception``, which what reads images may take for a damaged one."""


class StopSignals:
    """Context that notes a first signal, so that the iteration can be finished; a second one ends the process.

    SIGHUP (a closed terminal), SIGUSR1 and SIGUSR2 (SLURM's ``--signal``) count unless they are ignored, as by nohup. Signals
    within a second count as one, because torchrun forwards those that the system has already sent to all processes. Outside
    the main thread, which receives all signals, the context does nothing.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGINT', *GROUP_SIGNALS))

    received: str | None = None  # name of the signal
    _time = 0.0
    _interrupts = False

    def __enter__(self) -> 'StopSignals':
        self._group = torch.distributed.new_group(backend='gloo') if get_world_size() > 1 else None
        self._exchange: tuple[Tensor, torch.distributed.Work] | None = None
        numbers = self.SIGNALS if threading.current_thread() is threading.main_thread() else ()
        # torchrun forwards SIGHUP although it is ignored, and kills what has not ended 30 seconds later.
        if 'TORCHELASTIC_RUN_ID' not in os.environ:
            ignored = {name for name in GROUP_SIGNALS if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN}
            numbers = tuple(number for number in numbers if number.name not in ignored)
        self._previous_handlers = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed from Python

    def _handle(self, number: int, frame) -> None:
        if self.received is not None and time.monotonic() < self._time + 1:
            return
        if self.received is not None:
            rich.get_console().show_cursor()  # a progress bar may have hidden it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received, self._time = signal.Signals(number).name, time.monotonic()
        # Not through the logger, which the signal may have interrupted. On a terminal, a progress display overwrites 3 lines.
        message = f'\n{self.received}: finishing the iteration and saving; once more ends the training at once\n'
        try:
            os.write(2, (message + ('\n' * 3 if os.isatty(2) else '')).encode())
        except OSError:  # the terminal is gone, and whoever prints to it would fail
            null = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2) if os.path.sameopenfile(1, 2) else (2,):
                os.dup2(null, stream)
        if self._interrupts:
            raise Interrupted

    @contextmanager
    def interrupting(self, interrupts: bool) -> Iterator[None]:
        """Context in which a signal, also an earlier one, raises :class:`Interrupted`, unless ``interrupts`` is False."""
        self._interrupts = interrupts
        try:
            if interrupts and self.received:
                raise Interrupted
            yield
        finally:
            self._interrupts = False

    def received_by_any_process(self) -> bool:
        """Whether any process has received a signal; a collective call.

        Several processes exchange this over gloo while they train, and know it an iteration later: so no one waits for a GPU.
        """
        if self._group is None:
            return self.received is not None
        flag, previous = torch.tensor(float(self.received is not None)), self._exchange
        self._exchange = flag, torch.distributed.all_reduce(flag, ReduceOp.MAX, self._group, async_op=True)
        if previous is None:
            return False
        previous[1].wait()
        return bool(previous[0])


@LOOPS.register_module()
class GANValLoop(BaseLoop):
    """Evaluates the runner's model with an :class:`~mmsagan.evaluation.Evaluator`.

    Args:
        dataloader: Config with the ``batch_size`` of sampling and extraction, and ``num_workers`` and ``dataset`` of the real
            images, which is not built unless a metric needs it.
        evaluator: The evaluator, its config, or the configs of its metrics.
    """

    mode = 'val'

    def __init__(self, runner: Runner, dataloader: dict, evaluator: Evaluator | dict | list):
        self._runner = runner
        self.evaluator = build_evaluator(evaluator)
        dataset = dataloader.get('dataset')
        self.real_images = RealImages(dataset, dataloader.get('num_workers', 0), self.evaluator.seed) if dataset else None
        self.results: dict = {}  # of the most recent evaluation, by name
        self.should_stop: Callable[[], bool] = lambda: False  # called after each batch; True raises Interrupted
        self.batch_size = dataloader.get('batch_size', 1)

    @property
    def dataloader(self) -> range:
        """Stands for the batches of samples; MMEngine's hooks read its length."""
        return range(self.evaluator.num_batches(unwrap(self.runner.model), self.batch_size))

    def run(self) -> dict:
        """Evaluates the model; returns the results by name."""
        mode, call_hook, batch_idx = self.mode, self.runner.call_hook, 0

        def after_batch() -> None:
            nonlocal batch_idx
            call_hook(f'after_{mode}_iter', batch_idx=batch_idx, data_batch=None, outputs=None)
            if self.should_stop():
                raise Interrupted
            batch_idx += 1
            call_hook(f'before_{mode}_iter', batch_idx=batch_idx, data_batch=None)

        call_hook(f'before_{mode}')
        call_hook(f'before_{mode}_epoch')
        call_hook(f'before_{mode}_iter', batch_idx=0, data_batch=None)
        model = unwrap(self.runner.model)
        self.results = self.evaluator.evaluate_model(model, self.real_images, self.batch_size, after_batch)
        call_hook(f'after_{mode}_epoch', metrics=self.results)
        call_hook(f'after_{mode}')
        return self.results


@LOOPS.register_module()
class GANTestLoop(GANValLoop):
    """The loop of the runner's ``test``."""

    mode = 'test'


def evaluator_config(evaluator: dict | list) -> dict:
    """Returns the config of an evaluator, which may be given as the configs of its metrics alone, or of one metric."""
    return dict(evaluator) if isinstance(evaluator, dict) and 'metrics' in evaluator else dict(metrics=evaluator)


def build_evaluator(evaluator: Evaluator | dict | list) -> Evaluator:
    """Builds an evaluator from its config, or from the configs of its metrics alone."""
    if isinstance(evaluator, Evaluator):
        return evaluator
    config = evaluator_config(evaluator)
    built = EVALUATOR.build(dict(config, type=config.get('type', 'Evaluator')))
    if not isinstance(built, Evaluator):
        raise ConfigError(f'the evaluator must be an mmsagan.evaluation.Evaluator, not a {type(built).__name__}')
    return built
