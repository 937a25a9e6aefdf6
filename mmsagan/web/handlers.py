"""What the web demo does for a visitor: from a model and a request to pictures. Nothing here knows of Gradio."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmsagan.apis.attention import attention_maps
from mmsagan.apis.sampling import interpolate, resolve_inputs, sample, sample_inputs
from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.visualization import salient_queries
from mmsagan.visualization.attention import overlay
from mmsagan.visualization.figures import encode_png
from mmsagan.web.pictures import GridLayout, choose_layout, panel
from mmsagan.web.requests import Look, SampleRequest

STEPS = 16  # of the way between two samples, the ends included


@dataclass(frozen=True)
class Grid:
    """The images that a visitor is looking at, and what they were made of.

    Args:
        images: (N, 3, H, W) uint8 RGB; none where they are not needed any more.
        noise: (N, noise_size), truncated.
        label: Classes (N,); None of an unconditional model.
        sample_model: As :func:`~mmsagan.apis.sample` takes it.
        layout: Where the images are in the picture.
    """

    images: Tensor
    noise: Tensor
    label: Tensor | None
    sample_model: str | None
    layout: GridLayout

    def draw(self) -> np.ndarray:
        """The picture in the images' own pixels."""
        return self.layout.draw(self.images)

    def without_images(self) -> 'Grid':
        """What is enough to make the images again; the sessions of many visitors take little memory."""
        return replace(self, images=self.images[:0])


@dataclass(frozen=True)
class Attention:
    """What the attention layers look at from a pixel.

    Args:
        image: The image, enlarged, with the pixel marked.
        layers: By the layer's name the same with its map laid over it.
        peaks: By the layer's name, how many times as much as on average the most attended pixel gets.
    """

    image: np.ndarray
    layers: Mapping[str, np.ndarray]
    peaks: Mapping[str, float]


def sample_grid(model: ConditionalGAN, request: SampleRequest, look: Look) -> Grid:
    """Makes the images asked for, the same ones as :func:`~mmsagan.apis.sample`.

    Raises:
        MMSAGANError: They cannot be made.
    """
    noise, label = resolve_inputs(model, request.number, request.labels, None, request.seed, look.truncation)
    return _grid_of(model, noise, label, look.sample_model, request)


def compare_grids(
    first: ConditionalGAN, second: ConditionalGAN, request: SampleRequest, look: Look, other_look: Look
) -> tuple[Grid, Grid]:
    """Makes images of the same noise and classes by two models.

    Raises:
        ConfigError: One model cannot take the other one's noise or classes.
        MMSAGANError: The images cannot be made.
    """
    for name, numbers in (
        ('noise of length', (first.noise_size, second.noise_size)),
        ('a number of classes of', (first.num_classes, second.num_classes)),
    ):
        if numbers[0] != numbers[1]:
            raise ConfigError(
                f'the first model has {name} {numbers[0]} and the second one {numbers[1]}: they cannot make images of the same '
                'noise and classes'
            )
    grid = sample_grid(first, request, look)
    return grid, _grid_of(second, grid.noise, grid.label, other_look.sample_model, request)


def _grid_of(
    model: ConditionalGAN, noise: Tensor, label: Tensor | None, sample_model: str | None, request: SampleRequest
) -> Grid:
    images = sample(model, noise=noise, labels=label, sample_model=sample_model)
    layout = choose_layout(len(images), images.shape[2], request.number if len(request.classes) > 1 else None)
    return Grid(images, noise, label, sample_model, layout)


def attention_of(model: ConditionalGAN, grid: Grid, index: int, x: int, y: int) -> Attention:
    """Lays over an image what every attention layer of the generator looks at from one of its pixels.

    Args:
        model: The one that has made the grid.
        grid: The images.
        index: Of the image.
        x: Of the pixel.
        y: Of the pixel.

    Raises:
        ConfigError: The generator has no attention layer.
    """
    found = attention_maps(
        model,
        [(x, y)],
        noise=grid.noise[index : index + 1],
        labels=None if grid.label is None else grid.label[index : index + 1],
        sample_model=grid.sample_model,
    )
    image = found.images[0].permute(1, 2, 0).numpy()
    layers, peaks = {}, {}
    for layer, maps in found.maps.items():
        attention = maps[0, 0].numpy()
        covered = overlay(image, attention / attention.max())
        layers[layer] = panel(np.rint(255 * covered).astype(np.uint8), x, y)
        peaks[layer] = float(attention.max() * attention.size)
    return Attention(panel(image, x, y), layers, peaks)


def salient_pixel(grid: Grid) -> tuple[int, int]:
    """A pixel of the first image at which there is something to be seen."""
    x, y = salient_queries(grid.images[:1], 1)[0, 0].tolist()
    return x, y


def frames_between(
    model: ConditionalGAN, seeds: tuple[int, int], classes: tuple[int, int] | None, look: Look, num_steps: int = STEPS
) -> Tensor:
    """Goes from a sample to another one.

    Args:
        model: The model.
        seeds: The noises at the ends are those of the first samples of these seeds.
        classes: At the ends; None of an unconditional model.
        look: How the images are made.
        num_steps: Number of images, the ends included.

    Returns:
        (num_steps, 3, H, W) uint8 RGB.

    Raises:
        ConfigError: Both ends are the same.
    """
    noises, labels = list(dict.fromkeys(seeds)), list(dict.fromkeys(classes or ()))
    if len(noises) < 2 and len(labels) < 2:
        raise ConfigError('both ends are the same image: choose another seed or another class for one of them')
    return interpolate(
        model,
        num_steps,
        noise=torch.cat([sample_inputs(model, seed).noise(0, 1) for seed in noises]),
        labels=labels or None,
        sample_model=look.sample_model,
        truncation=look.truncation,
    )


def film(frames: Tensor) -> str:
    """Images below each other, as the data URL of a PNG."""
    strip = frames.permute(0, 2, 3, 1).flatten(0, 1).numpy()
    return 'data:image/png;base64,' + base64.b64encode(encode_png(strip)).decode()


def picture_name(*parts: object) -> str:
    """The name of a picture that is downloaded, made of what it shows."""
    words = [str(part).removesuffix('.pth').removesuffix('.safetensors') for part in parts]
    return re.sub(r'[^\w.=-]+', '_', '_'.join(words)).lstrip('.') + '.png'


def describe_model(model: ConditionalGAN, config: str, checkpoint: str, layers: Mapping[str, object]) -> list[str]:
    """What is shown: config, checkpoint, and what they are, in a few words each."""
    iteration = int(model.iteration)
    attention = f'attention at {", ".join(layers)}' if layers else 'no attention'
    return [
        Path(config).name.removesuffix('.py'),
        checkpoint,
        *([f'iteration {iteration}'] if iteration else []),
        f'{model.generator.output_scale} × {model.generator.output_scale} pixels',
        f'{model.num_classes} classes' if model.num_classes else 'no classes',
        attention,
        str(model.device),
    ]
