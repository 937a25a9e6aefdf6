"""How fast a training is, and how long it will take."""

import time
from collections import deque

from mmengine.dist import get_world_size
from mmengine.hooks import IterTimerHook as MMEngineIterTimerHook
from mmengine.runner import IterBasedTrainLoop

from mmsagan.registry import HOOKS

_SPEED_WINDOW = 50  # iterations that the speed is the mean of
_ETA_WINDOW = 1000  # iterations that the time left is reckoned from


class MovingSums:
    """The sums of the seconds and the images of the last iterations.

    Args:
        length: How many iterations.
    """

    def __init__(self, length: int):
        self.length = length
        self.clear()

    def clear(self) -> None:
        """Forgets all iterations."""
        self.entries: deque[tuple[float, int]] = deque()
        self.seconds, self.images = 0.0, 0

    def add(self, seconds: float, images: int) -> None:
        """Takes note of an iteration."""
        self.entries.append((seconds, images))
        self.seconds += seconds
        self.images += images
        if len(self.entries) > self.length:
            old_seconds, old_images = self.entries.popleft()
            self.seconds -= old_seconds
            self.images -= old_images


@HOOKS.register_module()
class IterTimerHook(MMEngineIterTimerHook):
    """MMEngine's hook of the same name, which also measures images a second, and whose time left counts evaluations.

    Both are in the message hub's infos, as ``images_per_second`` and ``eta``, and are measured in this run: not before it was
    resumed, and not in its first iteration, which starts data loader processes and may compile.

    * Images a second are the real images that D is trained on, of all processes together: with ``accumulative_counts``, all
      parts of a batch. An update that is skipped has taken its time, too. Checkpoints and pictures between the iterations
      count, evaluations do not.
    * The time left is that of the iterations, at the mean speed of the last 1000, and of the evaluations that are still to
      come, if there was one in this run.
    """

    def __init__(self):
        super().__init__()
        self._speed = MovingSums(_SPEED_WINDOW)
        self._pace = MovingSums(_ETA_WINDOW)
        self._evaluation_seconds: list[float] = []
        self._evaluation_began = 0.0

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._speed.clear()
        self._pace.clear()

    def before_val(self, runner) -> None:
        self._evaluation_began = time.time()

    def after_val(self, runner) -> None:
        self._evaluation_seconds.append(time.time() - self._evaluation_began)
        self.t = time.time()  # what follows the last batch of samples is no part of the next iteration

    def _after_iter(self, runner, batch_idx: int, data_batch=None, outputs=None, mode: str = 'train') -> None:
        super()._after_iter(runner, batch_idx, data_batch, outputs, mode)
        if mode != 'train':
            return
        if runner.iter == self.start_iter + 1:  # there is a better one than the first now
            self._speed.clear()
            self._pace.clear()
        seconds = runner.message_hub.get_scalar('train/time').current()
        inputs = data_batch.get('inputs') if isinstance(data_batch, dict) else None
        images = 0 if inputs is None else len(inputs)
        for sums in (self._speed, self._pace):
            sums.add(seconds, images)
        if self._speed.images and self._speed.seconds > 0:
            speed = self._speed.images * get_world_size() / self._speed.seconds
            runner.message_hub.update_info('images_per_second', speed)
        runner.message_hub.update_info('eta', self._seconds_left(runner))

    def _seconds_left(self, runner) -> float:
        done = runner.iter + 1
        seconds = self._pace.seconds / len(self._pace.entries) * (runner.max_iters - done)
        if self._evaluation_seconds and isinstance(runner.train_loop, IterBasedTrainLoop):
            mean = sum(self._evaluation_seconds) / len(self._evaluation_seconds)
            seconds += mean * evaluations_left(runner.train_loop, done)
        return seconds


def evaluations_left(loop: IterBasedTrainLoop, done: int) -> int:
    """How many evaluations are to come once ``done`` iterations are, the one after the last of these included."""
    done = max(done, loop.val_begin)
    ends = [*loop.dynamic_milestones[1:], loop.max_iters]
    parts = list(zip(loop.dynamic_milestones, ends, loop.dynamic_intervals))
    regular = sum(max(0, min(end, loop.max_iters) // every - max(begin, done - 1) // every) for begin, end, every in parts)
    # The last iteration is evaluated in any case.
    last = [every for begin, _, every in parts if begin <= loop.max_iters][-1]
    return regular + (loop.max_iters % last != 0 and done <= loop.max_iters)
