"""What a visitor of the web demo asks for, checked: it comes from a browser, or from any other program."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN

MOST_SEED = 2**53 - 1  # the largest of a browser's whole numbers
NO_TRUNCATION = 3.0  # where the slider ends: from there on, noise is not truncated


@dataclass(frozen=True)
class Look:
    """How images are made, whatever they show.

    Args:
        truncation: As :func:`~mmsagan.apis.sample` takes it.
        sample_model: As :func:`~mmsagan.apis.sample` takes it.
    """

    truncation: float | None = None
    sample_model: str | None = None


@dataclass(frozen=True)
class SampleRequest:
    """Which images a grid shows.

    Args:
        classes: The classes picked, one row each; none for classes drawn by the seed.
        number: Images of each class picked; of none, the images.
        seed: Of the noise, and of classes that are drawn.
    """

    classes: tuple[int, ...]
    number: int
    seed: int

    @property
    def labels(self) -> list[int] | None:
        """The class of each image; None if they are drawn."""
        return [label for label in self.classes for _ in range(self.number)] or None


def read_look(truncation: float, sample_model: str | None) -> Look:
    """What is asked for, from the page's values.

    Raises:
        ConfigError: A value is none that the page offers.
    """
    if isinstance(truncation, bool) or not isinstance(truncation, Real) or not truncation > 0:
        raise ConfigError(f'truncation must be a number greater than 0, got {short(truncation)}')
    if sample_model not in (None, 'ema', 'orig'):
        raise ConfigError(f"weights must be 'ema' or 'orig', got {short(sample_model)}")
    return Look(None if truncation >= NO_TRUNCATION else float(truncation), sample_model)


def read_samples(
    model: ConditionalGAN, classes: Sequence[int] | None, number: float, seed: float, max_images: int
) -> SampleRequest:
    """What is asked for, from the page's values.

    Raises:
        ConfigError: A value is out of range, or these would be too many images.
    """
    if not isinstance(classes, (list, tuple, type(None))):
        raise ConfigError(f'classes must be a list, got {short(classes)}')
    picked = tuple(read_class(model, label) for label in classes or ())
    number = read_whole('number of images', number, 1, max_images)
    if len(picked) * number > max_images:
        raise ConfigError(
            f'{len(picked)} classes with {number} images each are {len(picked) * number} images; this page makes at most '
            f'{max_images} at a time'
        )
    return SampleRequest(picked, number, read_seed(seed))


def read_class(model: ConditionalGAN, label: int) -> int:
    """A class of the model.

    Raises:
        ConfigError: The model has no such class.
    """
    if not model.num_classes:
        raise ConfigError('the model has no classes')
    return read_whole('class', label, 0, model.num_classes - 1)


def read_seed(seed: float) -> int:
    """A seed.

    Raises:
        ConfigError: It is none.
    """
    return read_whole('seed', seed, 0, MOST_SEED)


def read_whole(name: str, value: float, least: int, most: int) -> int:
    """A whole number, which may come as 3.0.

    Raises:
        ConfigError: It is none, or out of range.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value != int(value) or not least <= value <= most:
        raise ConfigError(f'{name} must be a whole number from {least} to {most}, got {short(value)}')
    return int(value)


def short(value: object) -> str:
    """A value that was sent, for a message."""
    text = 'nothing' if value is None else str(value)
    return text if len(text) <= 40 else f'{text[:40]}…'
