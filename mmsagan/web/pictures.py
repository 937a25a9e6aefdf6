"""How the web demo's pictures are laid out, and which pixel of which image lies where in them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmsagan.visualization import image_grid
from mmsagan.visualization.attention import QUERY_COLOURS

# Of a picture's longer side, in pixels. Browsers make it smaller where there is less room, but should not have to enlarge it.
_LEAST_GRID = 1024
_LEAST_PANEL = 448
_PADDING = 2
_MOST_COLUMNS = 8  # of the images of a class: in more, they are too small to see anything
_MARK = tuple(int(QUERY_COLOURS[0][place : place + 2], 16) for place in (1, 3, 5))


@dataclass(frozen=True)
class GridLayout:
    """Where the images of a grid are, in its enlarged picture.

    Args:
        count: Number of images.
        columns: Images a row.
        size: Height and width of an image.
        per_group: After so many images, a new row begins.
    """

    count: int
    columns: int
    size: int
    per_group: int | None = None

    @property
    def rows_per_group(self) -> int:
        """Rows of the images that belong together: of all of them, if there are no groups."""
        return -(-(self.per_group or self.count) // self.columns)

    @property
    def scale(self) -> int:
        """By which the picture is enlarged."""
        step = self.size + _PADDING
        rows = self.rows_per_group * (self.count // (self.per_group or self.count))
        return _enlarging(max(rows, self.columns) * step + _PADDING, _LEAST_GRID)

    def draw(self, images: Tensor) -> np.ndarray:
        """The grid in the images' own pixels, which is what is downloaded."""
        groups = images.unflatten(0, (-1, self.per_group or self.count))
        empty = self.rows_per_group * self.columns - groups.shape[1] if len(groups) > 1 else 0
        white = images.new_full((len(groups), empty, *images.shape[1:]), 255)
        return image_grid(torch.cat([groups, white], 1).flatten(0, 1), self.columns, _PADDING)

    def enlarge(self, picture: np.ndarray) -> np.ndarray:
        """The picture in which places are located."""
        return enlarge(picture, self.scale)

    def locate(self, x: float, y: float) -> tuple[int, int, int] | None:
        """The image and its pixel at a place of the enlarged picture.

        Args:
            x: From the left.
            y: From the top.

        Returns:
            Number of the image, and the pixel's x and y in it; None between images and outside.
        """
        column, inside_x = divmod(int(x // self.scale) - _PADDING, self.size + _PADDING)
        row, inside_y = divmod(int(y // self.scale) - _PADDING, self.size + _PADDING)
        per_group = self.per_group or self.count
        group, row_in_group = divmod(row, self.rows_per_group)
        place = row_in_group * self.columns + column
        index = group * per_group + place
        is_image = row >= 0 and 0 <= column < self.columns and place < per_group and index < self.count
        is_inside = is_image and max(inside_x, inside_y) < self.size
        return (index, inside_x, inside_y) if is_inside else None


def choose_layout(count: int, size: int, per_class: int | None = None) -> GridLayout:
    """Lays images out: each class in rows of its own, if there are some of each, else about as many columns as rows.

    Args:
        count: Number of images.
        size: Height and width of an image.
        per_class: Images of each class, where several were picked.
    """
    if per_class is None or per_class == 1:
        return GridLayout(count, _square_columns(count), size)
    rows = -(-per_class // _MOST_COLUMNS)
    return GridLayout(count, -(-per_class // rows), size, per_class)


def _square_columns(count: int) -> int:
    side = math.isqrt(count - 1) + 1
    # The fewest empty places, then the squarest.
    return min(range(side, 2 * side + 1), key=lambda columns: (-count % columns, columns))


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures (H, W, 3) uint8 as one, on white."""
    height = max(len(left), len(right))
    parts = [np.pad(part, ((0, height - len(part)), (0, 0), (0, 0)), constant_values=255) for part in (left, right)]
    gap = np.full((height, 4 * _PADDING, 3), 255, np.uint8)
    return np.concatenate([parts[0], gap, parts[1]], axis=1)


def enlarge(picture: np.ndarray, scale: int) -> np.ndarray:
    """Makes every pixel a square of ``scale`` pixels."""
    return picture.repeat(scale, 0).repeat(scale, 1)


def panel(image: np.ndarray, x: int, y: int) -> np.ndarray:
    """An image, enlarged, with a ring around one of its pixels.

    Args:
        image: (H, W, 3) uint8.
        x: Of the pixel.
        y: Of the pixel.

    Returns:
        (h, w, 3) uint8.
    """
    scale = _enlarging(max(image.shape[:2]), _LEAST_PANEL)
    picture = enlarge(image, scale)
    width = max(3, scale // 4)
    # Seen on bright and on dark, and the pixel itself stays to be seen.
    for distance, colour in ((2 * width, (0, 0, 0)), (width, _MARK)):
        _draw_ring(picture, x * scale, y * scale, scale, distance, width, colour)
    return picture


def _draw_ring(picture: np.ndarray, left: int, top: int, side: int, distance: int, width: int, colour: tuple) -> None:
    """Draws a square ring whose outer border is so far from the square (left, top, side) that it goes around."""
    rows, columns = np.ogrid[: picture.shape[0], : picture.shape[1]]
    away = np.maximum(np.maximum(left - columns, columns - (left + side - 1)), np.maximum(top - rows, rows - (top + side - 1)))
    picture[(away > distance - width) & (away <= distance)] = colour


def _enlarging(length: int, least: int) -> int:
    return max(1, -(-least // length))
