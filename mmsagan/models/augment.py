"""Augmentation of all images that D sees, real and fake, so that D does not memorize few images.

An augmentation is any module that maps images (N, C, S, S), float in [-1, 1], to images of the same shape, and gradients back.
With a method ``adapt(real_logits, iteration)``, it gets the logits of all real images of an update of D and the number of
iterations before; the dict of scalars that it returns is logged. Its buffers are saved in checkpoints.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.blocks import check_counts
from mmsagan.registry import MODELS


class Augment(nn.Module):
    """Base class of those below: :meth:`transform` is called without autocast, on images in float32 or float64."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.transform(images.to(torch.promote_types(images.dtype, torch.float32))).to(images.dtype)

    def transform(self, images: Tensor) -> Tensor:
        """Returns augmented images."""
        raise NotImplementedError


@MODELS.register_module()
class DiffAugment(Augment):
    """Augments every image, see Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".

    ``policy`` names transforms, separated by commas, which are applied in this order: ``color`` adds -0.5 to 0.5 to the
    brightness, and multiplies saturation by 0 to 2 and contrast by 0.5 to 1.5; ``translation`` moves an image by up to an
    eighth of its size, padded with zeros; ``cutout`` sets a square of half its size to zero, whose centre is anywhere in the
    image; ``flip`` mirrors half of the images left to right. Zero is mid-grey. All is drawn per image.
    """

    def __init__(self, policy: str = 'color,translation,cutout'):
        super().__init__()
        self.policy = [name.strip() for name in str(policy).split(',')]
        if unknown := set(self.policy) - _TRANSFORMS.keys():
            raise ConfigError(f'DiffAugment.policy: {unknown.pop()!r} is not one of {", ".join(_TRANSFORMS)}')

    def transform(self, images: Tensor) -> Tensor:
        for name in self.policy:
            images = _TRANSFORMS[name](images)
        return images


def _color(images: Tensor) -> Tensor:
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, dtype=images.dtype, device=images.device)
    images = images + brightness - 0.5
    images = torch.lerp(images.mean(1, keepdim=True), images, 2 * saturation)
    return torch.lerp(images.mean((1, 2, 3), keepdim=True), images, 0.5 + contrast)


def _translation(images: Tensor) -> Tensor:
    most = round(images.shape[-1] / 8)
    shift = torch.randint(-most, most + 1, (2, len(images)), device=images.device) * 2 / images.shape[-1]
    one = torch.ones_like(shift[0])
    return _warp(images, _affine(one, one, 0 * one, shift), mode='nearest', padding_mode='zeros')


def _cutout(images: Tensor) -> Tensor:
    size = images.shape[-1]
    offsets = torch.arange(size, device=images.device) - torch.randint(size + 1, (2, len(images), 1), device=images.device)
    rows, columns = (offsets >= -(size // 4)) & (offsets < size // 2 - size // 4)
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)


def _flip(images: Tensor) -> Tensor:
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5, images.flip(3), images)


_TRANSFORMS = dict(color=_color, translation=_translation, cutout=_cutout, flip=_flip)


@MODELS.register_module()
class ADA(Augment):
    """Adaptive augmentation, see Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data".

    Each transform of an image is applied with the probability ``p``, logged as ``ada_p``, 0 at the start. Every ``interval``
    iterations, ``p`` grows if the mean sign of D's logits on real images since the last change is above ``target``, as when D
    memorizes images, and shrinks otherwise. All geometry is one affine map with bilinear interpolation, and images are
    continued by reflection; the paper upsamples by wavelets first, which blurs less.

    Args:
        groups: Which transforms: ``'blit'`` (mirroring, turns by 90 degrees, translation by whole pixels), ``'geom'`` (scale,
            rotation, aspect ratio, translation) and ``'color'`` (brightness, contrast, inverse luma, hue, saturation).
        target: Mean sign of the logits that is aimed at, from -1 to 1.
        interval: Iterations per change of ``p``.
        images: Number of real images during which ``p`` can go from 0 to 1. A smaller one suits fewer images.
    """

    p: Tensor
    signs: Tensor

    def __init__(
        self, groups: Sequence[str] = ('blit', 'geom', 'color'), target: float = 0.6, interval: int = 4, images: int = 500_000
    ):
        super().__init__()
        check_counts(interval=interval, images=images)
        if isinstance(groups, str) or set(groups) - {'blit', 'geom', 'color'}:
            raise ConfigError(f"ADA.groups must be a list of 'blit', 'geom' and 'color', got {groups!r}")
        self.groups, self.target, self.interval, self.images = tuple(groups), target, interval, images
        self.register_buffer('p', torch.zeros(()))
        # Sum of the signs since the last change and their number, over all processes, so that any of them can save it.
        self.register_buffer('signs', torch.zeros(2))

    @torch.no_grad()
    def adapt(self, real_logits: Tensor, iteration: int) -> dict[str, Tensor]:
        """Counts the signs of D's logits, and changes ``p`` if it is due."""
        total = real_logits.sign().sum(dtype=torch.float32)
        signs = torch.stack([total, torch.full_like(total, real_logits.numel())])
        dist.all_reduce(signs)
        total, number = self.signs.add_(signs)
        if (iteration + 1) % self.interval == 0:
            self.p.add_((total / number - self.target).sign() * number / self.images).clamp_(0, 1)
            self.signs.zero_()
        return dict(ada_p=self.p.clone())

    def transform(self, images: Tensor) -> Tensor:
        if {'blit', 'geom'} & set(self.groups):
            matrix = self.draw_geometry(images)
            images = _keep_unchanged(images, matrix, _warp(images, matrix))
        if 'color' in self.groups:
            matrix = self.draw_color(images)
            colors = matrix[:, :, :3] @ images.expand(-1, 3, -1, -1).flatten(2) + matrix[:, :, 3:]
            images = _keep_unchanged(images, matrix, colors[:, : images.shape[1]].view(images.shape))
        return images

    def draw_geometry(self, images: Tensor) -> Tensor:
        """Draws maps (N, 3, 3) from coordinates in the results, -1 to 1, to those in the images.

        These are the inverse of what is done to an image, the last transform first, which is drawn from the same distribution.
        """
        draw, size, one = partial(_draw, images, self.p), images.shape[-1], torch.ones_like(images[:, 0, 0, 0])
        matrix = torch.eye(3, dtype=images.dtype, device=images.device)
        if 'blit' in self.groups:
            mirror, turn = 1 - 2 * one * (draw(_uniform) > 0), math.pi / 2 * (2 * draw(_uniform)).floor()
            matrix = _affine(mirror, one, turn, (size / 8 * draw(_uniform, 2)).round() * 2 / size)
        if 'geom' in self.groups:
            half = 1 - (1 - self.p).sqrt()  # so that at least one of the rotations is applied with the probability p
            first, second = (math.pi * _draw(images, half, _uniform) for _ in range(2))
            scale, aspect, shift = 2 ** (0.2 * draw(torch.randn)), 2 ** (0.2 * draw(torch.randn)), 0.25 * draw(torch.randn, 2)
            matrix = matrix @ _affine(scale, scale, first, 0 * shift) @ _affine(aspect, 1 / aspect, second, shift)
        return matrix

    def draw_color(self, images: Tensor) -> Tensor:
        """Draws maps (N, 3, 4) from RGB and 1 to RGB."""
        draw = partial(_draw, images, self.p)
        brightness, contrast, saturation = 0.2 * draw(torch.randn), 2 ** (0.5 * draw(torch.randn)), 2 ** draw(torch.randn)
        return _color_matrix(brightness, contrast, draw(_uniform) > 0, math.pi * draw(_uniform), saturation)


def _draw(images: Tensor, p: Tensor, distribution: Callable[..., Tensor], *shape: int) -> Tensor:
    """Draws values (*shape, N), and sets them to zero, which changes nothing, for all but a share ``p`` of the N images."""
    values = distribution(*shape, len(images), dtype=images.dtype, device=images.device)
    return values * (torch.rand(len(images), device=images.device) < p)


def _uniform(*shape: int, **kwargs) -> Tensor:
    return 2 * torch.rand(*shape, **kwargs) - 1


def _affine(x_scale: Tensor, y_scale: Tensor, angle: Tensor, shift: Tensor) -> Tensor:
    """Returns matrices (N, 3, 3) that add a shift (2, N), then rotate, then scale."""
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    linear = torch.stack([x_scale, y_scale], 1)[:, :, None] * rotation
    matrix = F.pad(torch.cat([linear, linear @ shift.T[:, :, None]], 2), (0, 0, 0, 1))
    matrix[:, 2, 2] = 1
    return matrix


def _color_matrix(brightness: Tensor, contrast: Tensor, inverts: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Returns the maps (N, 3, 4) that do all of these, in this order.

    Luma is the component along the grey axis (1, 1, 1), hue an angle around it, saturation the distance from it.
    """
    luma, chroma = contrast * (1 - 2 * inverts.to(contrast)), contrast * saturation
    angles = hue[:, None] + torch.arange(3, device=hue.device) * (2 * math.pi / 3)
    row = (luma[:, None] + 2 * chroma[:, None] * angles.cos()) / 3  # the first; R, G and B are alike, so the others are shifted
    matrix = torch.stack([row, row.roll(1, 1), row.roll(2, 1)], 1)
    return torch.cat([matrix, (luma * brightness)[:, None, None].expand(-1, 3, 1)], 2)


def _warp(images: Tensor, matrix: Tensor, mode: str = 'bilinear', padding_mode: str = 'reflection') -> Tensor:
    """Samples images where matrices (N, 3, 3) map the coordinates of the pixels, from -1 to 1."""
    grid = F.affine_grid(matrix[:, :2].to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode, padding_mode, align_corners=False)


def _keep_unchanged(images: Tensor, matrix: Tensor, changed: Tensor) -> Tensor:
    """Returns the changed images, but as they were where the matrix is an identity up to rounding."""
    difference = (matrix - torch.eye(*matrix.shape[1:], device=matrix.device)).abs().amax((1, 2))
    return torch.where((difference < 1e-6)[:, None, None, None], images, changed)
