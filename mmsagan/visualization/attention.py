"""Attention maps as the paper's figure 1 shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from mmsagan.visualization.figures import pixel_figure, to_array
from mmsagan.visualization.saliency import attended_regions

# Told from each other by most colour-blind people, and seen on dark and on bright images.
QUERY_COLOURS = ('#e6194b', '#00b3ff', '#ffd400', '#3cd070', '#ff8c1a', '#d65cff', '#ffffff', '#008080')

# In pixels: the least height of an image, and what stands around it.
_LEAST_HEIGHT = 192
_GAP = 8
_TITLE = 28
_NOTE = 20
_NAME = 28


def attention_figure(
    images: Tensor, queries: Tensor, maps: Mapping[str, Tensor], names: Sequence[str] | None = None
) -> np.ndarray:
    """Draws one row an image and layer: the image with its queries as coloured dots, then for each query where it attends to.

    There, the map lies over the darkened image, the brighter, the more attention, relative to the map's peak; below stands the
    peak as a multiple of even attention. The query's dot has arrows to the most attended regions.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        queries: (N, Q, 2), pixels (x, y).
        maps: (N, Q, H, W) by the layer's name, each map summing to 1.
        names: Of the images.

    Returns:
        The figure (h, w, 3) uint8 RGB. Small images are enlarged by a whole number.

    Raises:
        ConfigError: The figure would be too large.

    Example:
        >>> images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> maps = dict(feat16=torch.full((2, 3, 32, 32), 1 / 32**2))
        >>> attention_figure(images, salient_queries(images, 3), maps, names=['a', 'b']).shape
        (452, 828, 3)
    """
    rows = [(number, layer) for number in range(len(images)) for layer in maps]
    layout = _Layout(len(rows), queries.shape[1], *images.shape[2:])
    for row, (number, layer) in enumerate(rows):
        image, points = images[number].permute(1, 2, 0).numpy(), queries[number].tolist()
        axes = layout.axes(row, 0, 'sample')
        layout.write_name(row, names[number] if names else '', layer if len(maps) > 1 else '')
        _draw_image(axes, image, points)
        for query, point in enumerate(points):
            axes = layout.axes(row, 1 + query, f'query {1 + query}')
            _draw_map(axes, image, point, maps[layer][number, query], _colour(query))
    return to_array(layout.figure)


def overlay(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """A map over an image: where it is 0 the image is grey and darkened, where it is 1 nearly covered by the brightest colour.

    Args:
        image: (H, W, 3) uint8.
        attention: (H, W), in [0, 1].

    Returns:
        (H, W, 3) in [0, 1].
    """
    grey = image.mean(axis=2, keepdims=True) / 255
    opacity = 0.75 * attention[..., None] ** 0.7
    return (1 - opacity) * 0.6 * grey + opacity * colormaps['viridis'](attention)[..., :3]


def check_attention_figure(rows: int, num_queries: int, height: int, width: int) -> None:
    """Raises a ConfigError if a figure of so many rows, and of so many queries in each, would be too large to draw."""
    _Layout(rows, num_queries, height, width)  # nothing is drawn yet


class _Layout:
    """A table of axes of the same size in pixels, so that an image's pixels stay whole."""

    def __init__(self, rows: int, num_queries: int, height: int, width: int):
        self.size = np.array([width, height]) * -(-_LEAST_HEIGHT // height)
        self.step = self.size + [_GAP, _NOTE]
        self.canvas = [_NAME, _TITLE] + self.step * [1 + num_queries, rows]
        self.figure = pixel_figure(*self.canvas)

    def axes(self, row: int, column: int, title: str) -> Axes:
        left, top = [_NAME, _TITLE] + self.step * [column, row]
        corner = [left, self.canvas[1] - top - self.size[1]]
        axes = self.figure.add_axes((*(corner / self.canvas), *(self.size / self.canvas)), xticks=[], yticks=[], frame_on=False)
        if row == 0:
            axes.set_title(title, fontsize=11, pad=5)
        return axes

    def write_name(self, row: int, *parts: str) -> None:
        """Writes what is known of a row to its left."""
        name = ', '.join(filter(None, parts))
        middle = 1 - (_TITLE + self.step[1] * row + self.size[1] / 2) / self.canvas[1]
        options: dict[str, Any] = dict(
            rotation='vertical' if len(name) > 2 else 'horizontal', va='center', ha='center', parse_math=False
        )
        self.figure.text(_NAME / 2 / self.canvas[0], middle, name, fontsize=11, **options)


def _draw_image(axes: Axes, image: np.ndarray, queries: Sequence[tuple[int, int]]) -> None:
    axes.imshow(image, interpolation='nearest')
    for number, query in enumerate(queries):
        _draw_dot(axes, query, _colour(number))


def _draw_map(axes: Axes, image: np.ndarray, query: tuple[int, int], attention: Tensor, colour: str) -> None:
    peak = attention.max()
    axes.imshow(overlay(image, (attention / peak).numpy()), interpolation='nearest')
    axes.set_xlabel(f'peak {peak * attention.numel():.1f}× even', fontsize=8, labelpad=2, color='#555555')
    for end in attended_regions(attention).tolist():
        # No arrow where the query attends to where it is.
        if np.hypot(end[0] - query[0], end[1] - query[1]) >= len(image) / 10:
            _draw_arrow(axes, query, end, colour)
    _draw_dot(axes, query, colour)


def _draw_dot(axes: Axes, place: tuple[int, int], colour: str) -> None:
    axes.scatter(*place, s=70, color=colour, edgecolors='black', linewidths=1.2, zorder=3, clip_on=False)


def _draw_arrow(axes: Axes, start: tuple[int, int], end: tuple[int, int], colour: str) -> None:
    outline = [withStroke(linewidth=4, foreground='black')]
    arrow = dict(arrowstyle='->', color=colour, linewidth=2, shrinkA=0, shrinkB=0, mutation_scale=14, path_effects=outline)
    axes.annotate('', xy=end, xytext=start, arrowprops=arrow, annotation_clip=False)


def _colour(query: int) -> str:
    return QUERY_COLOURS[query % len(QUERY_COLOURS)]
