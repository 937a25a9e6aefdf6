"""Matplotlib figures without its global state, no window and no current figure; and arrays as PNG."""

import io
from typing import cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mmsagan.errors import ConfigError

DPI = 100
_LONGEST = 2**16 - 1  # pixels, Agg's limit
_LARGEST = 2**28  # pixels, 1 GiB


def check_size(width: int, height: int) -> None:
    """Raises a ConfigError for a figure that is too large to draw; sizes are in pixels."""
    if max(width, height) > _LONGEST or int(width) * int(height) > _LARGEST:
        raise ConfigError(
            f'the picture would have {width} x {height} pixels, which is too large; draw fewer samples or classes'
        )


def pixel_figure(width: int, height: int) -> Figure:
    """An empty figure of a size in pixels, which is drawn by Agg, on machines without a display, too.

    Raises:
        ConfigError: It is too large.
    """
    check_size(width, height)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def to_array(figure: Figure) -> np.ndarray:
    """The figure as an image (H, W, 3) uint8 RGB."""
    canvas = cast(FigureCanvasAgg, figure.canvas)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def to_bytes(figure: Figure, file_type: str) -> bytes:
    """The figure as the content of a file: 'png', 'pdf' or 'svg'."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_type)
    return buffer.getvalue()


def encode_png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as the content of a .png file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'PNG')
    return buffer.getvalue()
