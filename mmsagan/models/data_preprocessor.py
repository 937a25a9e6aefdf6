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

    The batch is a dict of ``inputs``, RGB (N, 3, H, W) uint8 or a list of N such images, and ``labels`` (N,) or a list.

    The networks here see and make RGB, whatever MMagic's two arguments say. A training on BGR is the same training with the
    first and the last channel renamed, and BGR checkpoints are renamed likewise when they are loaded; so configs that ask for
    BGR keep their meaning, and go on from their checkpoints.

    Args:
        non_blocking: Whether copies to a GPU overlap with computing; needs pinned memory.
        flip_prob: How probably an image is mirrored left to right while training, on the device; in place of a ``RandomFlip``
            in the data set's pipeline. Draws from torch's random numbers of that device.
        output_channel_order: MMagic's, without effect: 'RGB' or 'BGR', the order in which its networks see the channels.
        rgb_to_bgr: The same as ``output_channel_order='BGR'``, in MMagic before its release 1.0.

    Raises:
        ConfigError: There is no such channel order, or ``flip_prob`` is no probability.
    """

    def __init__(
        self,
        non_blocking: bool = False,
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
            print_log(
                'data_preprocessor asks for BGR: the networks here work on RGB all the same, and samples are RGB. Training is '
                'no other one by that, and checkpoints of BGR networks are turned into RGB when they are loaded',
                logger='current',
                level=logging.WARNING,
            )

    def forward(self, data: dict, training: bool = False) -> dict:
        """Returns ``inputs`` as float (N, 3, H, W) in [-1, 1] and ``labels`` as int64 (N,), on the device."""
        inputs, labels = data['inputs'], data['labels']
        if not isinstance(inputs, Tensor):
            inputs = torch.stack(list(inputs))
        batch = self.cast_data(dict(inputs=inputs, labels=torch.as_tensor(labels, dtype=torch.long)))
        inputs = batch['inputs']
        if training and self.flip_prob:
            inputs = flip_at_random(inputs, self.flip_prob)
        return dict(inputs=inputs.float() / 127.5 - 1, labels=batch['labels'])


def flip_at_random(images: Tensor, probability: float) -> Tensor:
    """Mirrors each image of (N, C, H, W) left to right with a probability."""
    flipped = torch.rand(len(images), device=images.device) < probability
    # Not by indices: to find how many there are, the CPU would have to wait for the GPU.
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1] (values beyond are clipped) as uint8 in [0, 255], rounded to nearest."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
