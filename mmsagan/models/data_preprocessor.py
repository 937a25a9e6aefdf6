"""From the data loader's batch to the networks' input, and from their output to images."""

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmsagan.registry import MODELS


@MODELS.register_module()
class DataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device and maps uint8 [0, 255] to float [-1, 1].

    The batch is a dict of ``inputs``, RGB (N, 3, H, W) uint8 or a list of N such images, and ``labels`` (N,) or a list.

    Args:
        non_blocking: Whether copies to a GPU overlap with computing; needs pinned memory.
    """

    def __init__(self, non_blocking: bool = False):
        super().__init__(non_blocking=non_blocking)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Returns ``inputs`` as float (N, 3, H, W) in [-1, 1] and ``labels`` as int64 (N,), on the device."""
        inputs, labels = data['inputs'], data['labels']
        if not isinstance(inputs, Tensor):
            inputs = torch.stack(list(inputs))
        batch = self.cast_data(dict(inputs=inputs, labels=torch.as_tensor(labels, dtype=torch.long)))
        return dict(inputs=batch['inputs'].float() / 127.5 - 1, labels=batch['labels'])


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1] (values beyond are clipped) as uint8 in [0, 255], rounded to nearest."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
