"""The loop that trains a GAN."""

from collections.abc import Callable

from mmengine.runner.loops import IterBasedTrainLoop

from mmsagan.registry import LOOPS


@LOOPS.register_module()
class GANTrainLoop(IterBasedTrainLoop):
    """Trains iteration by iteration, as MMEngine's loop does.

    It takes the place of MMEngine's wherever a config counts iterations (``train_cfg=dict(by_epoch=False, max_iters=...)``).

    Args:
        *args: See ``mmengine.runner.IterBasedTrainLoop``.
        **kwargs: See ``mmengine.runner.IterBasedTrainLoop``.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._calls_after_iteration: list[Callable[[], None]] = []

    def call_after_iteration(self, function: Callable[[], None]) -> None:
        """Has a function called once, when the iteration under way is complete and counted, for what hooks are too early for."""
        self._calls_after_iteration.append(function)

    def run_iter(self, data_batch: dict) -> None:
        """One iteration, and what hooks have asked to be called after it."""
        super().run_iter(data_batch)
        calls, self._calls_after_iteration = self._calls_after_iteration, []
        for call in calls:
            call()
