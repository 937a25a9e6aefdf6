"""Optimizer wrappers that skip an update whose loss or gradient is not finite, instead of spoiling the weights with it."""

import math

import torch
from mmengine import optim
from mmengine.dist import all_reduce, is_distributed
from torch import Tensor
from torch.nn.utils import get_total_norm

from mmsagan.registry import OPTIM_WRAPPERS


class SkipsNonFinite:
    """Mixin for MMEngine's optimizer wrappers: a step whose loss or gradient holds NaN or Inf is skipped and counted.

    Weights and the optimizer's state stay as they were; the gradients are cleared as after any step. Of an accumulated update,
    one such part is enough. In a distributed run all processes skip as soon as one of them has to, so that their weights stay
    the same. The check waits for the device once a step.

    Attributes:
        skipped: Steps skipped since the wrapper was built.
        skipped_in_a_row: Steps skipped since the last one that was taken.
        skip_cause: Why the newest step was skipped, ``'loss'`` or ``'gradient'``; None: it was taken.
        largest_gradient: Largest absolute entry of the gradients of the last step taken, before clipping; None: none was taken.
    """

    skipped = 0
    skipped_in_a_row = 0
    skip_cause: str | None = None
    largest_gradient: float | None = None
    _loss: Tensor | None = None  # of the update's parts so far

    @property
    def last_step_skipped(self) -> bool:
        """Whether the last step was skipped."""
        return self.skip_cause is not None

    def backward(self, loss: Tensor, **kwargs) -> None:
        """The gradients of a loss; it is remembered until the step."""
        part = loss.detach()
        # A sum is finite only if its parts are.
        self._loss = part if self._loss is None else self._loss + part
        super().backward(loss, **kwargs)

    def step(self, **kwargs) -> None:
        """Updates the weights, or skips it."""
        self.skip_cause, largest_gradient = self._examine()
        self._loss = None
        if self.skip_cause is None:
            self.skipped_in_a_row = 0
            self.largest_gradient = largest_gradient
            super().step(**kwargs)
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
            self.skip_step()

    def skip_step(self) -> None:
        """What is done in place of a step."""

    def _examine(self) -> tuple[str | None, float]:
        """What is not finite on any process, and the gradients' largest absolute entry on this one."""
        gradients = [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        # The maximum norm does not overflow as long as the entries do not.
        largest = get_total_norm(gradients, norm_type=math.inf)
        loss = torch.zeros_like(largest) if self._loss is None else self._loss.to(largest.device)
        not_finite = torch.stack([~loss.isfinite(), ~largest.isfinite()]).float()
        if is_distributed():
            all_reduce(not_finite, op='max')
        # One transfer for all three, since each would wait for the device.
        loss_is_wrong, gradient_is_wrong, value = torch.cat([not_finite, largest.float().view(1)]).tolist()
        cause = 'loss' if loss_is_wrong else 'gradient' if gradient_is_wrong else None
        return cause, value


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(SkipsNonFinite, optim.OptimWrapper):
    """MMEngine's, but for skipping steps that are not finite; it has the same arguments and the same checkpoints."""


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(SkipsNonFinite, optim.AmpOptimWrapper):
    """MMEngine's float16 training, with its skipped steps counted.

    A loss scaler that looks for its scale skips a few steps at the beginning, and one every now and then.
    """

    def skip_step(self) -> None:
        # Without its own step the scaler still has to see the gradients, to lower its scale.
        self.loss_scaler.unscale_(self.optimizer)
        self.loss_scaler.update(self._scale_update_param)
