"""Attention maps drawn as in the paper's figure 1, and the choice of pixels worth looking at."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from mmsagan.errors import ConfigError
from mmsagan.visualization.figures import pixel_figure, printable, to_array

# Most colour-blind people can tell them apart, and they are visible on dark and on bright images.
QUERY_COLOURS = ('#e6194b', '#00b3ff', '#ffd400', '#3cd070', '#ff8c1a', '#d65cff', '#ffffff', '#008080')

# In pixels: the minimum height of an image, and the space around it.
_MIN_HEIGHT, _GAP, _TITLE, _NOTE, _NAME = 192, 8, 28, 20, 28


def attention_figure(
    images: Tensor, queries: Tensor, maps: Mapping[str, Tensor], names: Sequence[str] | None = None
) -> np.ndarray:
    """Draws one row per image and layer: the image with its queries as coloured dots, then the attention map of each query.

    A map lies over the darkened image, brighter for more attention, relative to the map's peak; the peak, as a multiple of
    uniform attention, is written below. Arrows lead from the query to the most attended regions. Takes images (N, 3, H, W)
    uint8 RGB, pixels (x, y) (N, Q, 2), and maps (N, Q, H, W) by layer name, each summing to 1. Returns the figure (h, w, 3)
    uint8 RGB; raises a ConfigError if it is too large.
    """
    rows = [(number, layer) for number in range(len(images)) for layer in maps]
    height, width = images.shape[2:]
    # In pixels, horizontally and vertically: of an image, from one to the next, and of the figure.
    size = np.array([width, height]) * -(-_MIN_HEIGHT // height)
    step = size + [_GAP, _NOTE]
    canvas = [_NAME, _TITLE] + step * [1 + queries.shape[1], len(rows)]
    figure = pixel_figure(*canvas)
    outline = [withStroke(linewidth=4, foreground='black')]
    arrow = dict(arrowstyle='->', linewidth=2, shrinkA=0, shrinkB=0, mutation_scale=14, path_effects=outline)
    dot: dict = dict(s=70, edgecolors='black', linewidths=1.2, zorder=3, clip_on=False)

    def add_axes(row: int, column: int, title: str, picture: np.ndarray) -> Axes:
        left, top = [_NAME, _TITLE] + step * [column, row]
        corner = [left, canvas[1] - top - size[1]]
        axes = figure.add_axes((*(corner / canvas), *(size / canvas)), xticks=[], yticks=[], frame_on=False)
        axes.imshow(picture, interpolation='nearest')
        if row == 0:
            axes.set_title(title, fontsize=11, pad=5)
        return axes

    for row, (number, layer) in enumerate(rows):
        image = images[number].permute(1, 2, 0).numpy()
        name = ', '.join(filter(None, [names[number] if names else '', layer if len(maps) > 1 else '']))
        middle = 1 - (_TITLE + step[1] * row + size[1] / 2) / canvas[1]
        rotation = 'vertical' if len(name) > 2 else 'horizontal'
        options = dict(rotation=rotation, va='center', ha='center', parse_math=False, fontsize=11)
        figure.text(_NAME / 2 / canvas[0], middle, printable(name), **options)  # type: ignore[arg-type]
        sample = add_axes(row, 0, 'sample', image)
        for query, (x, y) in enumerate(queries[number].tolist()):
            colour, attention = QUERY_COLOURS[query % len(QUERY_COLOURS)], maps[layer][number, query]
            peak = attention.max()
            axes = add_axes(row, 1 + query, f'query {1 + query}', overlay(image, (attention / peak).numpy()))
            axes.set_xlabel(f'peak {peak * attention.numel():.1f}× even', fontsize=8, labelpad=2, color='#555555')
            # The highest three local peaks that lie apart; none where attention is uniform.
            blurred = _blur(attention.double(), max(height, width) // 16)
            window = 2 * (max(height, width) // 12) + 1
            is_peak = blurred == F.max_pool2d(blurred[None], window, stride=1, padding=window // 2)[0]
            points = _spread_out_peaks(blurred * is_peak, 3, radius=min(height, width) / 6)
            heights = attention[points[:, 1], points[:, 0]]
            for end in points[(heights >= 0.6 * heights[0]) & (heights > 1.05 * attention.mean())].tolist():
                if np.hypot(end[0] - x, end[1] - y) >= len(image) / 10:  # not if the query attends to itself
                    axes.annotate('', end, (x, y), arrowprops=dict(arrow, color=colour), annotation_clip=False)
            for each in (sample, axes):
                each.scatter(x, y, color=colour, **dot)
    return to_array(figure)


def overlay(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Lays a map (H, W) in [0, 1] over an image (H, W, 3) uint8, dark grey where the map is 0; returns (H, W, 3) in [0, 1]."""
    grey = image.mean(axis=2, keepdims=True) / 255
    opacity = 0.75 * attention[..., None] ** 0.7
    return (1 - opacity) * 0.6 * grey + opacity * colormaps['viridis'](attention)[..., :3]


def salient_queries(images: Tensor, count: int) -> Tensor:
    """Chooses pixels around which colours change, and which lie apart; the same image always gets the same pixels.

    Takes images (N, 3, H, W) uint8 RGB; returns ``count`` pixels (x, y) of each, (N, count, 2) int64, the most salient first.
    """
    height, width = images.shape[2:]
    if not 1 <= count <= height * width:
        raise ConfigError(f'the number of queries must be from 1 to {height * width}, the pixels of an image, got {count}')
    chosen = []
    for image in images:
        pixels = F.pad(image.cpu().double()[None], (1, 1, 1, 1), mode='replicate')[0]
        across = (pixels[:, 1:-1, 2:] - pixels[:, 1:-1, :-2]).square()
        along = (pixels[:, 2:, 1:-1] - pixels[:, :-2, 1:-1]).square()
        saliency = _blur((across + along).sum(0), max(height, width) // 16)
        chosen.append(_spread_out_peaks(saliency, count, radius=min(height, width) / 5))
    return torch.stack(chosen)


def _spread_out_peaks(score: Tensor, count: int, radius: float) -> Tensor:
    """Chooses the highest point (x, y) of a map (H, W) repeatedly, after scaling by 1 - exp(-d^2 / 2 radius^2) around each."""
    height, width = score.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    # In a plain area all scores are 0; a tiny constant keeps its points apart, too.
    score = score + torch.finfo(score.dtype).eps
    points = []
    for _ in range(count):
        place = int(score.flatten().argmax())
        points.append((place % width, place // width))
        square_distance = (x - points[-1][0]) ** 2 + (y - points[-1][1]) ** 2
        score = score * (1 - torch.exp(-square_distance / (2 * radius**2)))
    return torch.tensor(points)


def _blur(values: Tensor, width: int) -> Tensor:
    """Applies a box filter of odd width twice to (H, W), zero-padded."""
    width += 1 - width % 2
    for _ in range(2):
        values = F.avg_pool2d(values[None], width, stride=1, padding=width // 2)[0]
    return values
