"""Losses that are added to the adversarial one, for few images and stable training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmengine.model import BaseModule
from torch import Tensor

from mmsagan.models.layers.blocks import check_counts

if TYPE_CHECKING:
    from mmsagan.models.gan import ConditionalGAN


@dataclass
class Update:
    """What one update of a network has computed: images as D saw them, their labels (None without classes), and logits (N,).

    ``real`` and what belongs to it are None in an update of G.
    """

    gan: 'ConditionalGAN'
    fake: Tensor
    fake_label: Tensor | None
    fake_logits: Tensor
    real: Tensor | None = None
    real_label: Tensor | None = None
    real_logits: Tensor | None = None


class Regularizer(BaseModule):
    """Base of the regularizers: a loss in the updates of D, of G, or of both.

    It is logged as ``loss_disc_<name>`` and ``loss_gen_<name>``. Its buffers are saved in checkpoints.

    Args:
        weight: Factor of the loss.
        interval: Number of iterations per one in which the loss is computed, with ``interval`` times the weight.
    """

    name = 'regularizer'

    def __init__(self, weight: float = 1.0, interval: int = 1):
        super().__init__()
        check_counts(interval=interval)
        self.weight = weight
        self.interval = interval

    def discriminator_loss(self, update: Update) -> Tensor | None:
        """Returns the loss of an update of D, a scalar; None if it has none."""
        return None

    def generator_loss(self, update: Update) -> Tensor | None:
        """Returns the loss of an update of G, a scalar; None if it has none."""
        return None
