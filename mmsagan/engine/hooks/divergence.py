"""What becomes of a training whose losses or gradients are no longer finite."""

from dataclasses import asdict, dataclass
from functools import partial

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper

from mmsagan.engine.rollback import good_checkpoint, roll_back, scale_learning_rates, wrappers_by_network
from mmsagan.errors import ConfigError, DivergenceError
from mmsagan.registry import HOOKS

_MOST_WARNINGS = 10
_INFO = 'divergence'  # where the message hub, and with it every checkpoint, has the counts


@dataclass
class Counts:
    """What a resumed training has to know of its past.

    Attributes:
        skipped: Updates skipped.
        rollbacks: Times that the training went back to a checkpoint.
        last_target: The iteration that it went back to last.
        lr_scale: What the learning rates have been multiplied by.
    """

    skipped: int = 0
    rollbacks: int = 0
    last_target: int | None = None
    lr_scale: float = 1.0


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Counts the updates that the optimizers skip since they are not finite, and ends a training that no longer makes any.

    MMSAGAN's optimizer wrappers skip an update whose loss or gradient holds NaN or Inf. One now and then does no harm; the log
    has their number as ``skipped_steps``. If one network's updates are skipped all the time, the training has diverged: it ends
    with a report, or goes back to the newest checkpoint from before, with lower learning rates and other random numbers and
    data. If it comes to the same end before the next checkpoint, it goes back to an older one.

    The counts are part of the checkpoints, so they hold for a training with all its interruptions.

    Args:
        max_skipped_in_a_row: So many skipped updates of one network in a row are a divergence; None: never.
        rollbacks: How often the training may go back.
        lr_factor: All learning rates are multiplied by it each time.

    Raises:
        ConfigError: An argument is out of range, or the training loop is none that can go back.
        DivergenceError: The training has diverged, and may not or cannot go back.
    """

    priority = 'NORMAL'

    def __init__(self, max_skipped_in_a_row: int | None = 20, rollbacks: int = 0, lr_factor: float = 0.5):
        if max_skipped_in_a_row is not None and max_skipped_in_a_row < 1:
            raise ConfigError(f'DivergenceHook: max_skipped_in_a_row must be at least 1, got {max_skipped_in_a_row}')
        if rollbacks < 0 or not 0 < lr_factor <= 1:
            raise ConfigError(
                f'DivergenceHook: rollbacks must be at least 0 and lr_factor in (0, 1], got {rollbacks} and {lr_factor}'
            )
        self.max_skipped_in_a_row = max_skipped_in_a_row
        self.rollbacks = rollbacks
        self.lr_factor = lr_factor
        self.counts = Counts()
        self._seen: dict[str, int] = {}  # by network: skipped updates that are counted already
        self._began: dict[str, int] = {}  # by network: the iteration in which its updates began to be skipped in a row
        self._warnings = 0

    def before_train(self, runner) -> None:
        if self.rollbacks and not hasattr(runner.train_loop, 'call_after_iteration'):
            raise ConfigError(
                f'DivergenceHook: the loop {type(runner.train_loop).__name__} cannot go back to a checkpoint; remove '
                "train_cfg.type, or set it to 'GANTrainLoop', or set rollbacks=0"
            )
        self.counts = Counts(**runner.message_hub.get_info(_INFO, {}))
        self._seen = {name: wrapper.skipped for name, wrapper in skipping_wrappers(runner).items()}
        self._remember(runner)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        wrappers = skipping_wrappers(runner)
        for network, wrapper in wrappers.items():
            self._count(runner, network, wrapper)
        if self.max_skipped_in_a_row is None:
            return
        diverged = [name for name, wrapper in wrappers.items() if wrapper.skipped_in_a_row >= self.max_skipped_in_a_row]
        if diverged and self.counts.rollbacks < self.rollbacks:
            # The loop has still to count this iteration.
            runner.train_loop.call_after_iteration(partial(self._go_back, runner, diverged[0]))
        elif diverged:
            raise DivergenceError(self._report(runner, diverged[0]))

    def _count(self, runner, network: str, wrapper: OptimWrapper) -> None:
        new = wrapper.skipped - self._seen.get(network, 0)
        self._seen[network] = wrapper.skipped
        if not wrapper.skipped_in_a_row:
            self._began.pop(network, None)
        elif network not in self._began:
            self._began[network] = runner.iter + 1
            self._warn(runner, network, wrapper)
        if new:
            self.counts.skipped += new
            self._remember(runner)
            runner.message_hub.update_scalar('train/skipped_steps', self.counts.skipped)

    def _warn(self, runner, network: str, wrapper: OptimWrapper) -> None:
        self._warnings += 1
        if self._warnings > _MOST_WARNINGS:
            return
        last = self._warnings == _MOST_WARNINGS
        stops = f'; {self.max_skipped_in_a_row} in a row are a divergence' if self.max_skipped_in_a_row else ''
        runner.logger.warning(
            f'iteration {runner.iter + 1}: the {wrapper.skip_cause} of an update of the {network} is not finite, so the update '
            f'is skipped{stops}' + ('; from now on only skipped_steps in the log counts them' if last else '')
        )

    def _remember(self, runner) -> None:
        runner.message_hub.update_info(_INFO, asdict(self.counts))

    def _go_back(self, runner, network: str) -> None:
        found = good_checkpoint(runner, min(self._began.values()), self.counts.last_target)
        if found is None:
            raise DivergenceError(self._report(runner, network))
        iteration, path = found
        runner.logger.warning(f'iteration {runner.iter}: the {network} has diverged; going back to {path}')
        runner.message_hub.pop_info(_INFO)  # a checkpoint without it would leave today's
        roll_back(runner, path)
        scale_there = Counts(**runner.message_hub.get_info(_INFO, {})).lr_scale
        self.counts.rollbacks += 1
        self.counts.last_target = iteration
        self.counts.lr_scale *= self.lr_factor
        scale_learning_rates(runner, self.counts.lr_scale / scale_there)
        self._remember(runner)
        self._began.clear()
        for wrapper in skipping_wrappers(runner).values():
            wrapper.skipped_in_a_row = 0
        runner.logger.warning(
            f'went back to iteration {iteration} ({self.counts.rollbacks} of at most {self.rollbacks} times); the learning '
            f'rates are now {_learning_rates(runner)}'
        )

    def _report(self, runner, network: str) -> str:
        """What happened, the last good numbers, and what may help."""
        wrappers = skipping_wrappers(runner)
        wrapper = wrappers[network]
        began = min(self._began.values())
        found = good_checkpoint(runner, began)
        times = 'once' if self.counts.rollbacks == 1 else f'{self.counts.rollbacks} times'
        went_back = f', after going back to a checkpoint {times}' if self.counts.rollbacks else ''
        lines = [
            f'the training has diverged: the last {wrapper.skipped_in_a_row} updates of the {network}, from iteration {began} '
            f'on, had a {wrapper.skip_cause} with NaN or Inf and were skipped{went_back}',
            f'  updates skipped in all: {self.counts.skipped}',
            f'  last finite values: {_last_values(runner) or "none"}',
            f'  learning rates: {_learning_rates(runner)}',
            f'  largest gradients of the last updates made: {_largest_gradients(wrappers)}',
            f'  newest good checkpoint from before: {found[1] if found else "none"}',
        ]
        return '\n'.join([*lines, 'what may help:', *(f'  - {remedy}' for remedy in self._remedies(found, wrapper))])

    def _remedies(self, found, wrapper: OptimWrapper) -> list[str]:
        remedies = []
        if found:
            remedies.append(
                f'let the training go back by itself, with lower learning rates each time: --resume {found[1]} --cfg-options '
                f'default_hooks.divergence.type=DivergenceHook default_hooks.divergence.rollbacks={self.counts.rollbacks + 3}'
            )
        remedies.append('train anew with lower learning rates: optim_wrapper.<network>.optimizer.lr')
        if wrapper.clip_grad_kwargs is None:
            remedies.append('limit the gradients: optim_wrapper.clip_grad="{\'max_norm\': 10.0}"')
        if type(wrapper).__name__ in ('BFloat16OptimWrapper', 'AmpOptimWrapper'):
            remedies.append('train in float32: optim_wrapper.type=OptimWrapper')
        return remedies


def skipping_wrappers(runner) -> dict[str, OptimWrapper]:
    """Those of the runner's optimizer wrappers that skip updates that are not finite, by network."""
    return {name: wrapper for name, wrapper in wrappers_by_network(runner).items() if hasattr(wrapper, 'skipped')}


def _last_values(runner) -> str:
    """The losses, logits and gradient norms that were logged last; what is not finite is not logged."""
    shown = {
        key.removeprefix('train/'): history.current()
        for key, history in runner.message_hub.log_scalars.items()
        if key.startswith(('train/loss', 'train/logits', 'train/grad_norm'))
    }
    return ', '.join(f'{name} {value:.4g}' for name, value in shown.items())


def _learning_rates(runner) -> str:
    return ', '.join(f'{name.removesuffix(".lr")} {rates[0]:.3g}' for name, rates in runner.optim_wrapper.get_lr().items())


def _largest_gradients(wrappers: dict[str, OptimWrapper]) -> str:
    known = {name: wrapper.largest_gradient for name, wrapper in wrappers.items() if wrapper.largest_gradient is not None}
    return ', '.join(f'{name} {value:.3g}' for name, value in known.items()) or 'none'
