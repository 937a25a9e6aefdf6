"""Image grids."""

import numpy as np
from torch import Tensor


def image_grid(images: Tensor, columns: int, padding: int = 2, background: int = 255) -> np.ndarray:
    """Lays images out row by row.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        columns: Images a row; the last row may be shorter.
        padding: Pixels between and around the images.
        background: Grey level of the padding, in [0, 255].

    Returns:
        (rows * (H + padding) + padding, columns * (W + padding) + padding, 3) uint8 RGB.

    Example:
        >>> image_grid(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), columns=3).shape
        (22, 32, 3)
    """
    count, _, height, width = images.shape
    rows = -(-count // columns)
    grid = np.full((rows * (height + padding) + padding, columns * (width + padding) + padding, 3), background, np.uint8)
    for index, image in enumerate(images.cpu().numpy().transpose(0, 2, 3, 1)):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        grid[top : top + height, left : left + width] = image
    return grid
