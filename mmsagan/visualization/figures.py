"""Image grids, and Matplotlib figures of a size in pixels: without pyplot, so without a window or global state."""

import importlib.util
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image
from torch import Tensor

from mmsagan.errors import ConfigError

_DPI = 100
_MAX_SIDE = 2**16 - 1  # pixels, Agg's limit
_MAX_PIXELS = 2**28  # 1 GiB
_PADDING = 2
_MIN_CELL_HEIGHT = 64  # pixels of an image in a class grid
_MARGIN = 12


def printable(text: str) -> str:
    """Escapes what fonts and JSON cannot take: parts of file names that are not UTF-8."""
    return text.encode(errors='backslashreplace').decode()


def pixel_figure(width: int, height: int) -> Figure:
    """Returns an empty figure of a size in pixels; raises a ConfigError if it is too large."""
    if max(width, height) > _MAX_SIDE or int(width) * int(height) > _MAX_PIXELS:
        raise ConfigError(f'a picture of {width} x {height} pixels is too large; draw fewer samples or classes')
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def to_array(figure: Figure) -> np.ndarray:
    """Renders a figure as an image (H, W, 3) uint8 RGB."""
    canvas = cast(FigureCanvasAgg, figure.canvas)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def to_bytes(figure: Figure, file_type: str) -> bytes:
    """Renders a figure as the content of a ``'png'``, ``'pdf'`` or ``'svg'`` file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_type)
    return buffer.getvalue()


def encode_png(picture: np.ndarray) -> bytes:
    """Encodes a picture (H, W, 3) uint8 RGB as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'PNG')
    return buffer.getvalue()


def has_ffmpeg() -> bool:
    """Whether the package imageio-ffmpeg is installed, which :func:`encode_film` needs for MP4."""
    return importlib.util.find_spec('imageio_ffmpeg') is not None


def encode_film(frames: Sequence[np.ndarray], fps: int, suffix: str) -> bytes:
    """Encodes frames (H, W, 3) uint8 as a film, there and back: an endless ``'.gif'``, or ``'.mp4'``."""
    frames = [*frames, *frames[-2:0:-1]]
    if suffix == '.gif':
        buffer, (first, *others) = io.BytesIO(), map(Image.fromarray, frames)
        first.save(buffer, 'GIF', save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
        return buffer.getvalue()
    import imageio_ffmpeg

    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'film.mp4'
        # H.264 takes even sizes only.
        writer = imageio_ffmpeg.write_frames(str(path), (width + width % 2, height + height % 2), fps=fps, macro_block_size=2)
        writer.send(None)
        for frame in frames:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)
            writer.send(np.ascontiguousarray(even))
        writer.close()
        return path.read_bytes()


def enlarge(images: Tensor, least: int) -> Tensor:
    """Repeats the pixels of images (..., H, W), so that they are at least ``least`` pixels wide."""
    scale = -(-least // images.shape[-1])
    return images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def image_grid(images: Tensor, columns: int, padding: int = _PADDING) -> np.ndarray:
    """Lays out images (N, 3, H, W) uint8 RGB row by row, with ``padding`` white pixels between and around them: (h, w, 3)."""
    height, width = images.shape[2:]
    rows = -(-len(images) // columns)
    grid = np.full((rows * (height + padding) + padding, columns * (width + padding) + padding, 3), 255, np.uint8)
    for index, image in enumerate(images.cpu().numpy().transpose(0, 2, 3, 1)):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        grid[top : top + height, left : left + width] = image
    return grid


def class_grid(images: Tensor, names: Sequence[str], notes: Sequence[str] | None = None) -> np.ndarray:
    """Draws one row per class, as in the paper's figure 6: its name and a note below it at the left, its samples at the right.

    ``images`` (classes * columns, 3, H, W) uint8 RGB are ordered by class. Raises a ConfigError if the picture is too large.
    """
    names, notes = [printable(name) for name in names], notes or [''] * len(names)
    grid = image_grid(enlarge(images, _MIN_CELL_HEIGHT), len(images) // len(names))
    name_font, note_font = FontProperties(size=12), FontProperties(size=10)
    renderer = cast(FigureCanvasAgg, pixel_figure(1, 1).canvas).get_renderer()
    texts = [(name, name_font) for name in names] + [(note, note_font) for note in notes]
    widths = [renderer.get_text_width_height_descent(text, font, ismath=False)[0] for text, font in texts]
    width, height = int(np.ceil(max(widths))) + 2 * _MARGIN, len(grid)
    figure = pixel_figure(width, height)
    for row, (name, note) in enumerate(zip(names, notes)):
        middle = 1 - (row + 0.5) * (height - _PADDING) / len(names) / height
        for text, font, offset, color in ((name, name_font, 10 * bool(note), 'black'), (note, note_font, -10, '#555555')):
            place = (1 - _MARGIN / width, middle + offset / height)
            figure.text(*place, text, fontproperties=font, color=color, ha='right', va='center', parse_math=False)
    return np.concatenate([to_array(figure), grid], axis=1)
