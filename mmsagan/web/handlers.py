"""What the web demo computes and draws, independently of Gradio."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.font_manager import findfont
from mmengine.config import Config
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmsagan.apis.attention import attention_maps
from mmsagan.apis.inspection import NearestImages, fid_extractor, training_config
from mmsagan.apis.sampling import interpolate, resolve_inputs, sample, sample_inputs
from mmsagan.datasets import ClassImageDataset
from mmsagan.engine.config import config_errors
from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.registry import DATASETS
from mmsagan.visualization import image_grid
from mmsagan.visualization.attention import QUERY_COLOURS, overlay
from mmsagan.visualization.figures import enlarge

NUM_STEPS = 16  # of an interpolation, including both endpoints
# Minimum length of a picture's longer side in pixels, so that browsers need not enlarge it.
_GRID_SIZE, _PANEL_SIZE = 1024, 448
_PADDING = 2
_MAX_COLUMNS = 8  # for the images of one class: in more columns they become too small


@dataclass(frozen=True)
class GridLayout:
    """Positions of images in a grid, which is enlarged for display."""

    cells: np.ndarray  # number of the image in each cell (rows, columns); -1 in empty cells
    size: int  # height and width of an image
    has_names: bool = False  # whether names stand below the images of the displayed grid

    @property
    def scale(self) -> int:
        """Magnification of the displayed grid."""
        return math.ceil(_GRID_SIZE / (max(self.cells.shape) * (self.size + _PADDING) + _PADDING))

    @property
    def pitch(self) -> int:
        """Pixels from one column of the displayed grid to the next."""
        return (self.size + _PADDING) * self.scale

    @property
    def name_height(self) -> int:
        """Pixels below an image of the displayed grid for its name."""
        return min(40, max(14, self.pitch // 5)) if self.has_names else 0

    def draw(self, images: Tensor) -> np.ndarray:
        """Draws images (N, 3, H, W) uint8 without magnification, as they are downloaded."""
        images_and_white = torch.cat([images, torch.full_like(images[:1], 255)])
        return image_grid(images_and_white[self.cells.flatten()], self.cells.shape[1], _PADDING)

    def display(self, images: Tensor, names: Sequence[str] = ()) -> np.ndarray:
        """Draws images (N, 3, H, W) uint8 enlarged, with the names (N,), shortened to fit, below them if the layout has any."""
        if not self.has_names:
            return self.draw(images).repeat(self.scale, 0).repeat(self.scale, 1)
        large = enlarge(torch.cat([images, torch.full_like(images[:1], 255)])[self.cells.flatten()], self.size * self.scale)
        padding, height = _PADDING * self.scale, self.name_height
        picture = Image.fromarray(image_grid(F.pad(large, (0, 0, 0, height), value=255), self.cells.shape[1], padding))
        canvas, font = ImageDraw.Draw(picture), ImageFont.truetype(findfont('DejaVu Sans'), height * 3 // 4)
        for (row, column), index in np.ndenumerate(self.cells):
            name = '' if index < 0 else ' '.join(names[index].split())
            while len(name) > 1 and canvas.textlength(name, font) > self.pitch:
                name = name[:-2] + '…'
            place = padding + column * self.pitch + self.size * self.scale / 2, (row + 1) * (self.pitch + height) - height // 10
            canvas.text(place, name, 'black', font, anchor='mb')
        return np.array(picture)

    def locate(self, x: float, y: float) -> tuple[int, int, int] | None:
        """Returns the image number and its pixel (x, y) at a point of the displayed grid; None between the images."""
        row, y = divmod(y, self.pitch + self.name_height)
        column, pixel_x = divmod(int(x // self.scale) - _PADDING, self.size + _PADDING)
        pixel_y = int(y // self.scale) - _PADDING
        is_image = (
            row < len(self.cells) and 0 <= column < self.cells.shape[1] and 0 <= pixel_y and max(pixel_x, pixel_y) < self.size
        )
        index = int(self.cells[int(row), column]) if is_image else -1
        return None if index < 0 else (index, pixel_x, pixel_y)


def make_layout(count: int, size: int, per_class: int | None = None, has_names: bool = False) -> GridLayout:
    """Lays out ``count`` images: each class on rows of its own, or in a nearly square grid if ``per_class`` is None or 1."""
    if per_class is None or per_class == 1:
        columns, per_class = math.isqrt(count - 1) + 1, count
    else:
        columns = math.ceil(per_class / math.ceil(per_class / _MAX_COLUMNS))
    cells = np.full((count // per_class, math.ceil(per_class / columns) * columns), -1)
    cells[:, :per_class] = np.arange(count).reshape(-1, per_class)
    return GridLayout(cells.reshape(-1, columns), size, has_names)


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Joins two pictures (H, W, 3) uint8 on a white background."""
    gap = 4 * _PADDING
    joined = np.full((max(len(left), len(right)), left.shape[1] + gap + right.shape[1], 3), 255, np.uint8)
    joined[: len(left), : left.shape[1]] = left
    joined[: len(right), left.shape[1] + gap :] = right
    return joined


@dataclass(frozen=True)
class Grid:
    """The inputs of the images that a visitor is looking at; the images can be generated from them again."""

    noise: Tensor  # (N, noise_size), truncated
    label: Tensor | None  # (N,); None for an unconditional model
    sample_model: str | None  # as in mmsagan.apis.sample
    layout: GridLayout


def sample_grid(
    model: ConditionalGAN,
    classes: Sequence[int],
    number: int,
    seed: int,
    truncation: float | None = None,
    sample_model: str | None = None,
) -> tuple[Tensor, Grid]:
    """Generates ``number`` images (N, 3, H, W) uint8 of each class, or of random classes; returns them and their inputs."""
    labels = [label for label in classes for _ in range(number)] or None
    noise, label = resolve_inputs(model, number, labels, None, seed, truncation)
    images = sample(model, noise=noise, labels=label, sample_model=sample_model)
    layout = make_layout(len(images), images.shape[2], number if len(classes) > 1 else None, label is not None)
    return images, Grid(noise, label, sample_model, layout)


def attention_panels(model: ConditionalGAN, grid: Grid, index: int, x: int, y: int) -> list[tuple[np.ndarray, str]]:
    """Draws the attention maps of pixel (x, y) over image number ``index`` of a grid that the model generated.

    Returns pictures with captions: the image, and one for each attention layer of the generator.
    """
    result = attention_maps(
        model,
        [(x, y)],
        noise=grid.noise[index : index + 1],
        labels=None if grid.label is None else grid.label[index : index + 1],
        sample_model=grid.sample_model,
    )
    image = result.images[0].permute(1, 2, 0).numpy()
    panels = [(mark_pixel(image, x, y), 'image')]
    for layer, maps in result.maps.items():
        attention = maps[0, 0].numpy()
        covered = np.rint(255 * overlay(image, attention / attention.max())).astype(np.uint8)
        peak = attention.max() * attention.size
        panels.append((mark_pixel(covered, x, y), f'layer {layer}: the peak is {peak:.1f} times the average attention'))
    return panels


def panel_scale(size: int) -> int:
    """Magnification of the pictures of :func:`attention_panels`, for images of a size in pixels."""
    return math.ceil(_PANEL_SIZE / size)


def mark_pixel(image: np.ndarray, x: int, y: int) -> np.ndarray:
    """Enlarges an image (H, W, 3) uint8 and draws a ring around a pixel, which stays visible."""
    scale = panel_scale(len(image))
    width = max(3, scale // 4)
    picture = Image.fromarray(image.repeat(scale, 0).repeat(scale, 1))
    # Two rings are visible on bright and on dark images.
    for distance, colour in ((2 * width, 'black'), (width, QUERY_COLOURS[0])):
        box = (x * scale - distance, y * scale - distance, (x + 1) * scale - 1 + distance, (y + 1) * scale - 1 + distance)
        ImageDraw.Draw(picture).rectangle(box, outline=colour, width=width)
    return np.array(picture)


def interpolation_frames(
    model: ConditionalGAN,
    seeds: Sequence[int],
    classes: Sequence[int] | None,
    truncation: float | None = None,
    sample_model: str | None = None,
) -> Tensor:
    """Interpolates between the first samples of two seeds and between two classes: uint8 images (NUM_STEPS, 3, H, W)."""
    seeds, labels = list(dict.fromkeys(seeds)), list(dict.fromkeys(classes or ()))
    if len(seeds) < 2 and len(labels) < 2:
        raise ConfigError('both ends are the same image: choose another seed or class for one of them')
    noise = torch.cat([sample_inputs(model, seed).noise(0, 1) for seed in seeds])
    return interpolate(model, NUM_STEPS, noise, labels or None, sample_model=sample_model, truncation=truncation)


class TrainingImageSearch:
    """Finds the training images that are nearest to samples, among 10 000 of them at most.

    They are read at the first call, which raises an MMSAGANError if they are not there. The features are those of the FID.
    """

    most = 10_000

    def __init__(self, cfg: Config, device: torch.device):
        self.cfg = cfg
        self.device = device

    @functools.cached_property
    def dataset(self) -> ClassImageDataset:
        """The training images, or a random choice of them."""
        with config_errors():
            dataset = DATASETS.build(training_config(self.cfg))
        chosen = np.random.RandomState(0).permutation(len(dataset))[: self.most]
        return dataset.get_subset(np.sort(chosen).tolist())

    @functools.cached_property
    def _search(self) -> NearestImages:
        return NearestImages(self.dataset, **fid_extractor(self.cfg))

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the nearest training images (N, 5, 3, H, W) uint8 and their distances (N, 5)."""
        distances, numbers = self._search(images.to(self.device))
        found = [self.dataset[number]['inputs'] for number in numbers.flatten().tolist()]
        return torch.stack(found).unflatten(0, numbers.shape), distances
