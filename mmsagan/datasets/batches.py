"""Whole batches: data sets of decoded images hand them to the data loader in one piece."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform, RandomFlip
from mmengine.dataset import default_collate
from torch import Tensor

from mmsagan.datasets.transforms import PackInputs
from mmsagan.registry import FUNCTIONS


class ReadyBatch(Sequence):
    """A batch that is stacked already. It is also the sequence of its samples, so that any ``collate_fn`` can stack it again.

    Args:
        inputs: Images (N, 3, H, W) uint8.
        labels: Their classes (N,) int64.

    Example:
        >>> batch = ReadyBatch(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([4, 7]))
        >>> len(batch), batch[1]['inputs'].shape, batch[1]['labels']
        (2, torch.Size([3, 8, 8]), 7)
    """

    def __init__(self, inputs: Tensor, labels: Tensor):
        self.inputs = inputs
        self.labels = labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.inputs[index], labels=int(self.labels[index]))


@FUNCTIONS.register_module()
def collate_batch(samples: Sequence[dict]) -> dict:
    """Stacks samples into a batch; a :class:`ReadyBatch` is handed on without a copy.

    In a config: ``collate_fn=dict(type='mmsagan.collate_batch')``. MMEngine looks for functions among its own, which is why
    the name has to say whose it is.
    """
    if isinstance(samples, ReadyBatch):
        return dict(inputs=samples.inputs, labels=samples.labels)
    return default_collate(samples)


def whole_batch_flip(pipeline: Sequence[BaseTransform]) -> float | None:
    """How probably a pipeline flips an image, if that and packing is all it does; None if it does anything else."""
    *rest, last = pipeline or [None]
    if type(last) is not PackInputs or len(rest) > 1:
        return None
    if not rest:
        return 0.0
    flip = rest[0]
    if type(flip) is not RandomFlip or flip.direction != 'horizontal' or not isinstance(flip.prob, float):
        return None
    return flip.prob


def flip_at_random(images: np.ndarray, probability: float) -> None:
    """Mirrors each image of (N, 3, H, W) at random, in place.

    Takes the same numbers from numpy's random state, to the same effect, as N calls of mmcv's ``RandomFlip``: a training does
    not depend on which way its images came.
    """
    if probability == 0:
        return
    # RandomFlip calls np.random.choice, which compares a random number with the normalized sums of the probabilities.
    sums = np.cumsum([probability, 1 - probability])
    flipped = np.random.random_sample(len(images)) < sums[0] / sums[-1]
    images[flipped] = images[flipped][..., ::-1]
