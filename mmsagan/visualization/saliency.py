"""Points worth looking at: salient pixels of an image, and the regions that an attention map points to."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsagan.errors import ConfigError


def salient_queries(images: Tensor, count: int) -> Tensor:
    """Chooses pixels of each image that stand out and lie apart; the same image gives the same pixels.

    A pixel stands out where colours change around it: the squared differences between neighbours, blurred. The first query is
    the most salient pixel. Each further one is the most salient after what lies near the chosen ones has been toned down.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        count: Q, pixels an image.

    Returns:
        (N, Q, 2), pixels (x, y), int64.

    Raises:
        ConfigError: ``count`` is less than 1, or more than there are pixels.

    Example:
        >>> images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        >>> images[:, :, 8:12, 20:24] = 255
        >>> salient_queries(images, 1).tolist()
        [[[21, 8]]]
    """
    height, width = images.shape[2:]
    if not 1 <= count <= height * width:
        raise ConfigError(f'the number of queries must be from 1 to {height * width}, the pixels of an image, got {count}')
    chosen = [spread_out_peaks(saliency(image), count, radius=min(height, width) / 5) for image in images]
    return torch.stack(chosen)


def saliency(image: Tensor) -> Tensor:
    """How much the colours of an image (3, H, W) uint8 change around each pixel: (H, W) float64, at least 0."""
    pixels = F.pad(image.cpu().double()[None], (1, 1, 1, 1), mode='replicate')[0]
    across = (pixels[:, 1:-1, 2:] - pixels[:, 1:-1, :-2]).square()
    along = (pixels[:, 2:, 1:-1] - pixels[:, :-2, 1:-1]).square()
    return blur((across + along).sum(0), max(image.shape[1:]) // 16)


def attended_regions(attention: Tensor, most: int = 3, least_share: float = 0.6) -> Tensor:
    """Where an attention map points: the highest of its local peaks, after a slight blur, that lie apart.

    Args:
        attention: A map (H, W).
        most: Number of regions at most.
        least_share: A region's peak must be at least this share of the highest, and above the map's mean.

    Returns:
        (R, 2), pixels (x, y), the highest first; none where attention is even.
    """
    blurred = blur(attention.double(), max(attention.shape) // 16)
    window = 2 * (max(attention.shape) // 12) + 1
    is_peak = blurred == F.max_pool2d(blurred[None], window, stride=1, padding=window // 2)[0]
    points = spread_out_peaks(blurred * is_peak, most, radius=min(attention.shape) / 6)
    heights = attention[points[:, 1], points[:, 0]]
    return points[(heights >= least_share * heights[0]) & (heights > 1.05 * attention.mean())]


def spread_out_peaks(score: Tensor, count: int, radius: float) -> Tensor:
    """Chooses the highest point of a map again and again, toning down what lies near it: by 1 - exp(-d^2 / 2 radius^2).

    Args:
        score: (H, W), at least 0; of equal points, the first row by row is taken.
        count: Number of points.
        radius: In pixels.

    Returns:
        Points (x, y), (count, 2).
    """
    height, width = score.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    # In a plain area all scores are 0; the least bit makes its points be chosen far from each other, too.
    score = score + torch.finfo(score.dtype).eps
    points = []
    for _ in range(count):
        place = int(score.flatten().argmax())
        points.append((place % width, place // width))
        square_distance = (x - points[-1][0]) ** 2 + (y - points[-1][1]) ** 2
        score = score * (1 - torch.exp(-square_distance / (2 * radius**2)))
    return torch.tensor(points)


def blur(values: Tensor, width: int) -> Tensor:
    """Twice the mean over squares of ``width`` pixels (rounded up to odd) around each pixel of (H, W); outside it are zeros."""
    width += 1 - width % 2
    for _ in range(2):
        values = F.avg_pool2d(values[None], width, stride=1, padding=width // 2)[0]
    return values
