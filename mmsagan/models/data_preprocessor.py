"""From the data loader's batch to the networks' input, and from their output to images."""

import logging

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS


@MODELS.register_module()
class DataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device and maps uint8 [0, 255] to float [-1, 1].

    The networks always see and generate RGB. Training on BGR is the same training with the first and the last channel
    exchanged, and BGR checkpoints are converted when they are loaded, so MMagic's configs for BGR and their checkpoints work.

    Args:
        non_blocking: Whether copies from pinned memory to a GPU overlap with computation.
        output_channel_order: MMagic's 'RGB' or 'BGR', the order of its networks' channels; ignored, with a warning for BGR.
        rgb_to_bgr: Same as ``output_channel_order='BGR'``, in MMagic before its release 1.0.
        flip_prob: Probability of mirroring an image left to right in training, on the device, in place of a ``RandomFlip``.
    """

    def __init__(
        self,
        non_blocking: bool = True,
        output_channel_order: str | None = None,
        rgb_to_bgr: bool = False,
        flip_prob: float = 0.0,
    ):
        super().__init__(non_blocking=non_blocking)
        if not isinstance(flip_prob, (int, float)) or not 0 <= flip_prob <= 1:
            raise ConfigError(f'data_preprocessor.flip_prob must be a number from 0 to 1, got {flip_prob!r}')
        self.flip_prob = flip_prob
        if output_channel_order not in (None, 'RGB', 'BGR'):
            raise ConfigError(f"data_preprocessor.output_channel_order must be 'RGB' or 'BGR', got {output_channel_order!r}")
        if output_channel_order == 'BGR' or rgb_to_bgr:
            ignored = 'BGR is ignored: networks and samples are RGB, to which checkpoints of BGR networks are converted'
            print_log(f'data_preprocessor: {ignored}', logger='current', level=logging.WARNING)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepares a batch; with ``training``, images are mirrored.

        ``data`` is a dict of ``inputs``, RGB images (N, 3, H, W), uint8, and ``labels`` (N,), or of lists of N. Returns a dict
        of ``inputs`` (N, 3, H, W), float in [-1, 1], and ``labels`` (N,), int64, on the device.
        """
        inputs, labels = data['inputs'], data['labels']
        if not isinstance(inputs, Tensor):
            inputs = torch.stack(list(inputs))
        batch = self.cast_data(dict(inputs=inputs, labels=torch.as_tensor(labels, dtype=torch.long)))
        images = batch['inputs']
        if training and self.flip_prob:
            flipped = torch.rand(len(images), device=images.device) < self.flip_prob
            # Not by indices: for their number, the CPU would have to wait for the GPU.
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        return dict(inputs=images.float() / 127.5 - 1, labels=batch['labels'])


def to_uint8(images: Tensor) -> Tensor:
    """Converts float images in [-1, 1] to uint8 in [0, 255], rounded to nearest; values beyond are clipped."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
