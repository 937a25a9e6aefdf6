"""The loop that trains a GAN, and goes on with a training that was interrupted as if it had not been."""

from collections.abc import Callable

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.runner import Runner
from mmengine.runner.loops import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from mmsagan.engine.loops import EvaluationInterrupted, GANValLoop
from mmsagan.engine.stopping import StopSignals
from mmsagan.engine.training_batches import TrainingBatches, seeded_loader
from mmsagan.errors import CheckpointError, StorageError, TrainingInterrupted
from mmsagan.registry import LOOPS
from mmsagan.utils.distributed import from_main_process
from mmsagan.utils.random_states import random_states, set_random_states

# Log entries kept of each number: for every new one MMEngine copies them all, up to a million.
LOG_LENGTH = 10_000
EVALUATED = 'evaluated_iter'  # in the message hub: the last iteration whose evaluation is done


@LOOPS.register_module()
class GANTrainLoop(IterBasedTrainLoop):
    """Trains iteration by iteration, evaluates in between, and stops when told to, with all that is needed to go on.

    It takes the place of MMEngine's loop wherever a config counts iterations, see
    :func:`~mmsagan.engine.config.complete_training`. A resumed training sees the images, draws the random numbers and computes
    the weights that it would have without the interruption, to the bit, on the same machine with the same number of processes.

    Args:
        runner: The runner.
        dataloader: Config of the training data's loader, or the loader, whose place cannot be found again then.
        **kwargs: See ``mmengine.runner.IterBasedTrainLoop``: ``max_iters``, ``val_begin``, ``val_interval``,
            ``dynamic_intervals``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs):
        is_config = isinstance(dataloader, dict)
        if is_config:
            # The first process's, and not each its own, so that one of them is enough to go on.
            seed = from_main_process(lambda: runner.seed)
            dataloader = seeded_loader(dataloader, seed)
        super().__init__(runner, dataloader, **kwargs)
        self.batches: TrainingBatches | None = None
        if is_config:
            # Some versions of MMEngine have started the loader's processes, at the wrong place.
            self.dataloader_iterator._iterator = self.dataloader._iterator = None
            self.batches = self.dataloader_iterator = TrainingBatches(self.dataloader, seed)
        self.stop_signals = StopSignals()
        self.has_trained = False  # since the process has started
        self._num_batches = 0  # that were trained on
        self._resumed: dict | None = None
        self._calls_after_iteration: list[Callable[[], None]] = []

    def call_after_iteration(self, function: Callable[[], None]) -> None:
        """Has a function called once, when the iteration under way is complete and counted, for which hooks are too early."""
        self._calls_after_iteration.append(function)

    def run(self) -> nn.Module:
        """Trains up to ``max_iters``.

        Returns:
            The model.

        Raises:
            TrainingInterrupted: A signal has come; the state is saved.
            DataError: A data loader process has died.
        """
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        lacks_evaluation = self._go_on()
        with self.stop_signals:
            try:
                self._run(lacks_evaluation)
            # PyTorch may notice a dead loader process anywhere; one that dies while it hands over a batch breaks a connection.
            except (RuntimeError, EOFError, ConnectionError) as error:
                is_likely = not isinstance(error, RuntimeError)
                death = self.batches.death(is_likely) if self.batches is not None else None
                if death is None:
                    raise
                raise death from error
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _run(self, lacks_evaluation: bool) -> None:
        log_length = self._log_length()
        if lacks_evaluation:
            self._evaluate()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            for buffer in self.runner.message_hub.log_scalars.values():
                buffer.max_length = log_length
            if self._is_evaluation_due():
                self._evaluate()
            if self.stop_signals.agreed() and self._iter < self._max_iters:
                self._interrupt()

    def run_iter(self, data_batch: dict) -> None:
        """One iteration, and what hooks have asked to be called after it."""
        self._num_batches += 1
        super().run_iter(data_batch)
        self.has_trained = True
        calls, self._calls_after_iteration = self._calls_after_iteration, []
        for call in calls:
            call()

    def _log_length(self) -> int:
        """How many entries of the log are kept: as many as the log's averages need."""
        processor = self.runner.log_processor
        windows = [processor.window_size, *(config.get('window_size') for config in processor.custom_cfg)]
        if 'global' in windows:
            return 1_000_000  # MMEngine's
        return max([LOG_LENGTH, *(window for window in windows if isinstance(window, int))])

    # --------------------------------------------------------------------------------------------------------- evaluation

    def _is_evaluation_due(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        if self.runner.message_hub.runtime_info.get(EVALUATED) == self._iter:
            return False  # of the checkpoint that the training has gone on from, or gone back to
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters

    def _evaluate(self) -> None:
        loop = self.runner.val_loop
        if isinstance(loop, GANValLoop) and get_world_size() == 1:
            loop.is_interrupted = lambda: self.stop_signals.received is not None
        try:
            loop.run()
        except EvaluationInterrupted:
            self.runner.logger.info('the evaluation is broken off; a resumed training does it again')
            self._interrupt()

    # ------------------------------------------------------------------------------------------- stopping and going on

    def _interrupt(self) -> None:
        name = self.stop_signals.received or 'a signal to another process'
        stopped = f'stopped by {name} after iteration {self._iter}'
        hook = next((hook for hook in self.runner.hooks if hasattr(hook, 'save_now')), None)
        if hook is None:
            raise TrainingInterrupted(f'{stopped}; nothing is saved, since the config has no CheckpointHook')
        saved = hook.save_now(self.runner)
        if saved is None:
            raise StorageError(f'{stopped}, which cannot be saved (see above); the last good checkpoint is {hook.last_ckpt}')
        raise TrainingInterrupted(f'{stopped}, saved to {saved}; go on with --resume')

    def state(self) -> dict:
        """What exact resuming needs besides weights and optimizers; all processes have to call it together."""
        data = self.batches.state(self._num_batches) if self.batches is not None else {}
        return dict(random_states=all_gather_object(random_states()), data=data)

    def resume(self, state: dict | None) -> None:
        """Takes the :meth:`state` of a checkpoint, to go on from it when the training starts; None if it has none."""
        self._resumed = state or {}

    def _go_on(self) -> bool:
        """Puts data and random numbers where a resumed training was; gives whether an evaluation was due there and not done."""
        state, self._resumed = self._resumed, None
        if state is None:
            return False
        reasons = []
        try:
            self._num_batches, reason = self._place(state.get('data'))
            reasons.append(reason)
            states = state.get('random_states') or []
            if len(states) == get_world_size():
                set_random_states(states[get_rank()])
            elif states:
                reasons.append(f'it ran on {len(states)} processes, and this one runs on {get_world_size()}')
            else:
                reasons.append('the checkpoint has no states of random number generators')
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, CheckpointError) as error:
            raise CheckpointError(f'{self.runner._load_from}: the training state in it is damaged ({error})') from error
        reasons = [reason for reason in reasons if reason]
        if reasons:
            self.runner.logger.warning(
                'the resumed training is not, to the bit, the one that was interrupted: ' + '; '.join(reasons)
            )
        self._decide_current_val_interval()
        return bool(state) and self._is_evaluation_due()

    def _place(self, data: dict | None) -> tuple[int, str | None]:
        """Finds the place in the training data; gives the number of batches before it, and what is not exact about it."""
        if self.batches is None:
            return 0, 'the data loader was made elsewhere: its batches begin anew'
        if not data:
            # Of another program's loop, which counts one batch an iteration.
            data = self.batches.state(self._iter)
        return self.batches.go_on(data)
