"""Transforms that mmcv does not have, and the collation of batches.

Images are numpy arrays (H, W, 3) uint8 RGB in ``results['img']``, as mmcv's ``Resize`` and ``RandomFlip`` expect them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import default_collate
from torch import Tensor

from mmsagan.datasets.image_folder import read_rgb
from mmsagan.registry import FUNCTIONS, TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Decodes ``img_path`` to RGB. Replaces mmcv's transform of the same name, which decodes to BGR.

    See :func:`~mmsagan.datasets.image_folder.read_rgb`. The data set handles an ``UnreadableImageError``.
    """

    def transform(self, results: dict) -> dict:
        results['img'] = read_rgb(results['img_path'])
        return results


@TRANSFORMS.register_module()
class CenterCropLongEdge(BaseTransform):
    """Crops the long edge at its center: (H, W, 3) -> (S, S, 3) with S = min(H, W)."""

    def transform(self, results: dict) -> dict:
        image = results['img']
        height, width = image.shape[:2]
        size = min(height, width)
        top, left = self.get_offset(height - size), self.get_offset(width - size)
        results['img'] = image[top : top + size, left : left + size]
        return results

    def get_offset(self, room: int) -> int:
        """Returns where the crop starts, in [0, room]."""
        return room // 2


@TRANSFORMS.register_module()
class RandomCropLongEdge(CenterCropLongEdge):
    """Crops the long edge at a uniformly random place: (H, W, 3) -> (S, S, 3) with S = min(H, W)."""

    def get_offset(self, room: int) -> int:
        return np.random.randint(room + 1)


@TRANSFORMS.register_module()
class PackInputs(BaseTransform):
    """The last transform: ``img`` (H, W, 3) and ``gt_label`` -> ``inputs`` (3, H, W) uint8 tensor and ``labels``."""

    def transform(self, results: dict) -> dict:
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return dict(inputs=torch.from_numpy(image), labels=results['gt_label'])


@dataclass(frozen=True, eq=False)
class ReadyBatch(Sequence):
    """A batch that is stacked already. It is also a sequence of samples, so that any ``collate_fn`` accepts it."""

    inputs: Tensor  # (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.inputs[index], labels=int(self.labels[index]))


@FUNCTIONS.register_module()
def collate_batch(samples: Sequence[dict]) -> dict:
    """Stacks samples; a :class:`ReadyBatch` is passed on as it is. In a config: ``dict(type='mmsagan.collate_batch')``."""
    if isinstance(samples, ReadyBatch):
        return dict(inputs=samples.inputs, labels=samples.labels)
    return default_collate(samples)
