"""Transforms that mmcv does not have: decoding to RGB, the crops of the published runs, packing.

Images are numpy arrays (H, W, 3) uint8 RGB in ``results['img']``; mmcv's ``Resize`` and ``RandomFlip`` fit in between.
"""

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mmsagan.datasets.decoding import read_rgb
from mmsagan.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Decodes ``img_path`` into RGB, whatever mode the file has.

    Grey, palette, CMYK and 16-bit images are converted, of animations the first frame is taken, an EXIF rotation is carried
    out, transparency is laid on white. Takes the place of mmcv's transform of the same name, which decodes to BGR.

    Raises:
        UnreadableImageError: The file is missing, truncated, no image or too large a one, see
            :func:`~mmsagan.datasets.decoding.open_image`; the data set handles it.
    """

    def transform(self, results: dict) -> dict:
        results['img'] = read_rgb(results['img_path'])
        return results


class _CropLongEdge(BaseTransform):
    """Crops the long edge, so that the image becomes a square of its short edge."""

    def transform(self, results: dict) -> dict:
        image = results['img']
        height, width = image.shape[:2]
        size = min(height, width)
        top, left = self.offset(height - size), self.offset(width - size)
        results['img'] = image[top : top + size, left : left + size]
        return results

    def offset(self, room: int) -> int:
        """Where the crop starts, in [0, room]."""
        raise TypeError(f'{type(self).__name__} has to define offset')


@TRANSFORMS.register_module()
class RandomCropLongEdge(_CropLongEdge):
    """Crops the long edge at a random place, uniformly: (H, W, 3) -> (S, S, 3) with S = min(H, W)."""

    def offset(self, room: int) -> int:
        return np.random.randint(room + 1)


@TRANSFORMS.register_module()
class CenterCropLongEdge(_CropLongEdge):
    """Crops the long edge in its middle: (H, W, 3) -> (S, S, 3) with S = min(H, W)."""

    def offset(self, room: int) -> int:
        return room // 2


@TRANSFORMS.register_module()
class PackInputs(BaseTransform):
    """The end of a pipeline: ``img`` (H, W, 3) and ``gt_label`` -> ``inputs`` (3, H, W) uint8 tensor and ``labels``."""

    def transform(self, results: dict) -> dict:
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return dict(inputs=torch.from_numpy(image), labels=results['gt_label'])
