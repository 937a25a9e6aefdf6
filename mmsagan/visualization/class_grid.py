"""Samples by class, with what is known of each class beside them, as in the paper's figure 6."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties
from torch import Tensor

from mmsagan.visualization.figures import pixel_figure, to_array
from mmsagan.visualization.grids import image_grid

_LEAST_HEIGHT = 64  # of an image, in pixels
_PADDING = 2
_MARGIN = 12
_NAME, _NOTE = FontProperties(size=12), FontProperties(size=10)


def class_grid(images: Tensor, names: Sequence[str], notes: Sequence[str] | None = None) -> np.ndarray:
    """Draws one row a class: at the left its name and a note, at the right its samples.

    Args:
        images: (classes * columns, 3, H, W) uint8 RGB, those of the first class first.
        names: Of the classes.
        notes: What stands below each name.

    Returns:
        The picture (h, w, 3) uint8 RGB. Small images are enlarged by a whole number.

    Raises:
        ConfigError: The picture would be too large.

    Example:
        >>> images = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
        >>> picture = class_grid(images, names=['cat', 'dog'], notes=['intra-FID 1.2', 'intra-FID 3.4'])
    """
    scale = -(-_LEAST_HEIGHT // images.shape[2])
    enlarged = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid = image_grid(enlarged, len(images) // len(names), _PADDING)
    text = _row_texts(names, notes or [''] * len(names), len(grid))
    return np.concatenate([text, grid], axis=1)


def _row_texts(names: Sequence[str], notes: Sequence[str], height: int) -> np.ndarray:
    """Names and notes, row below row, as wide as they need."""
    width = max(_width(text, font) for texts, font in ((names, _NAME), (notes, _NOTE)) for text in texts)
    canvas = np.array([width + 2 * _MARGIN, height])
    figure = pixel_figure(*canvas)
    for row, (name, note) in enumerate(zip(names, notes)):
        middle = 1 - (row + 0.5) * (height - _PADDING) / len(names) / height
        for text, font, offset, colour in ((name, _NAME, 10 * bool(note), 'black'), (note, _NOTE, -10, '#555555')):
            right = 1 - _MARGIN / canvas[0]
            options: dict[str, Any] = dict(fontproperties=font, color=colour, ha='right', va='center', parse_math=False)
            figure.text(right, middle + offset / height, text, **options)
    return to_array(figure)


def _width(text: str, font: FontProperties) -> int:
    renderer = cast(FigureCanvasAgg, pixel_figure(1, 1).canvas).get_renderer()
    return int(np.ceil(renderer.get_text_width_height_descent(text, font, ismath=False)[0]))
