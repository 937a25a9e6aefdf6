"""Resizing uint8 images to an extractor's input, by Pillow or by PyTorch."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmsagan.errors import ConfigError

_PILLOW_METHODS = dict(
    bicubic=Image.Resampling.BICUBIC,
    bilinear=Image.Resampling.BILINEAR,
    nearest=Image.Resampling.NEAREST,
    lanczos=Image.Resampling.LANCZOS,
    box=Image.Resampling.BOX,
)
_TORCH_METHODS = ('bicubic', 'bilinear', 'nearest')


@dataclass(frozen=True)
class Resize:
    """Resizes images (N, 3, H, W) uint8 to (N, 3, size, size) uint8.

    Args:
        size: In pixels.
        method: 'bicubic', 'bilinear' or 'nearest'; with Pillow also 'lanczos' and 'box'.
        backend: 'pillow', which filters over the source pixels when it makes images smaller, or 'torch', which interpolates.

    Raises:
        ConfigError: There is no such method or backend.
    """

    size: int = 299
    method: str = 'bicubic'
    backend: str = 'pillow'

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise ConfigError(f'images cannot be resized to {self.size!r} pixels')
        methods = dict(pillow=tuple(_PILLOW_METHODS), torch=_TORCH_METHODS).get(self.backend)
        if methods is None:
            raise ConfigError(f"the resize backend must be 'pillow' or 'torch', got {self.backend!r}")
        if self.method not in methods:
            raise ConfigError(f'the resize method must be one of {", ".join(methods)} with {self.backend}, got {self.method!r}')

    def __call__(self, images: Tensor) -> Tensor:
        return self._with_pillow(images) if self.backend == 'pillow' else self._with_torch(images)

    def _with_pillow(self, images: Tensor) -> Tensor:
        arrays = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        resized = np.empty((len(arrays), self.size, self.size, 3), np.uint8)

        def resize_one(index: int) -> None:
            image = Image.fromarray(arrays[index])
            resized[index] = np.asarray(image.resize((self.size, self.size), _PILLOW_METHODS[self.method]))

        # Pillow works outside Python's global lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(resize_one, range(len(arrays))))
        return torch.from_numpy(resized).permute(0, 3, 1, 2).contiguous().to(images.device)

    def _with_torch(self, images: Tensor) -> Tensor:
        align = None if self.method == 'nearest' else False
        resized = F.interpolate(images.float(), size=(self.size, self.size), mode=self.method, align_corners=align)
        return resized.round().clamp(0, 255).to(torch.uint8)

    def __str__(self) -> str:
        return f'{self.method} to {self.size} by {self.backend}'
