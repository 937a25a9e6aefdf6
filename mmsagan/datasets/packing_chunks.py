"""Images of a data set that is being packed: decoded and resized, some at a time, in whichever process."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmcv.transforms import BaseTransform, Resize

from mmsagan.datasets.base import UnreadableImageError
from mmsagan.datasets.duplicates import digest_of
from mmsagan.datasets.packed import MAX_RATIO
from mmsagan.datasets.transforms import CenterCropLongEdge, LoadImageFromFile


@dataclass(frozen=True)
class Chunk:
    """Some images, packed: their pixels one after the other, heights and widths, and those that cannot be read by place.

    ``digests`` are the sums of their pixels, see :mod:`mmsagan.datasets.duplicates`.
    """

    pixels: bytes
    digests: bytes
    sizes: list[list[int]]
    unreadable: dict[int, UnreadableImageError]


def make_transforms(layout: str, size: int, interpolation: str) -> list[BaseTransform]:
    """The transforms of a layout: the same ones that an unpacked data set has in its pipeline."""
    how = dict(interpolation=interpolation, backend='pillow')
    if layout == 'square':
        return [LoadImageFromFile(), CenterCropLongEdge(), Resize((size, size), **how)]
    return [LoadImageFromFile(), _RefuseStrips(), Resize((np.inf, size), keep_ratio=True, **how)]


class _RefuseStrips(BaseTransform):
    """Refuses images that are very much longer than wide: with their short side resized, they may not fit into memory."""

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        if max(height, width) > MAX_RATIO * min(height, width):
            reason = f'{width}x{height} pixels, more than {MAX_RATIO} times as long as wide'
            raise UnreadableImageError(results.get('img_path', 'an array'), reason)
        return results


def make_chunk(entries: Sequence[dict], transforms: Sequence[BaseTransform]) -> Chunk:
    """Loads and transforms images; those that come decoded, as ``img``, are not loaded."""
    pixels, sizes, unreadable = [], [], {}
    for place, entry in enumerate(entries):
        try:
            for transform in transforms:
                if not (isinstance(transform, LoadImageFromFile) and 'img' in entry):
                    entry = transform(entry)
        except UnreadableImageError as error:
            unreadable[place] = error
            continue
        sizes.append(list(entry['img'].shape[:2]))
        pixels.append(entry['img'].transpose(2, 0, 1).tobytes())
    return Chunk(b''.join(pixels), b''.join(map(digest_of, pixels)), sizes, unreadable)
