"""Transforms that mmcv does not have: decoding to RGB, the crops of the published runs, packing.

Images are numpy arrays (H, W, 3) uint8 RGB in ``results['img']``; mmcv's ``Resize`` and ``RandomFlip`` fit in between.
"""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps

from mmsagan.datasets.base import UnreadableImageError
from mmsagan.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Decodes ``img_path`` into RGB, whatever the file holds.

    Grey, palette, CMYK and 16-bit images are converted, an EXIF rotation is carried out, transparency is laid on white. Takes
    the place of mmcv's transform of the same name, which decodes to BGR.

    Raises:
        UnreadableImageError: The file is missing, truncated or not an image; the data set handles it.
    """

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        try:
            with Image.open(path) as image:
                results['img'] = np.asarray(to_rgb(ImageOps.exif_transpose(image)))
        except MemoryError:
            raise  # says nothing about the file
        except Exception as error:  # decoders raise what comes to them: of damaged Exif, for instance, a struct.error
            raise UnreadableImageError(path, str(error)) from error
        return results


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB; transparency is laid on white, 16-bit grey is scaled to 8 bits."""
    if image.mode.startswith('I;16') or image.mode == 'I':
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')


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
