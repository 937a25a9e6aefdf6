"""Which samples to make, by number and class, and who of the processes makes which."""

import math
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmsagan.apis.sampling import sample, sample_inputs
from mmsagan.errors import ConfigError
from mmsagan.evaluation.images import my_ranges
from mmsagan.models import ConditionalGAN
from mmsagan.utils.progress import progress_bar


@dataclass(frozen=True)
class SampleSet:
    """Numbered samples, which the processes share out among themselves; sample ``i`` depends on ``i`` and the seed alone.

    Args:
        model: As :func:`~mmsagan.apis.init_model` gives it.
        num_samples: How many there are.
        labels: The class of each (num_samples,); None for an unconditional model.
        columns: Samples a row of a grid.
        seed: Of the noise.
        sample_model: ``'ema'`` or ``'orig'``; None takes the moving average if there is one.
        truncation: See :func:`~mmsagan.apis.sampling.truncate`.
        batch_size: Samples at a time.
        amp: Compute in bfloat16, see :meth:`~mmsagan.models.gan.ConditionalGAN.frozen`.
    """

    model: ConditionalGAN
    num_samples: int
    labels: Tensor | None
    columns: int
    seed: int = 0
    sample_model: str | None = None
    truncation: float | None = None
    batch_size: int = 64
    amp: bool = False

    def batches(self) -> Generator[tuple[range, Tensor], None, None]:
        """This process's batches: their numbers, and images (N, 3, H, W) uint8."""
        ranges = my_ranges(self.num_samples, self.batch_size)
        with progress_bar('samples', sum(map(len, ranges))) as advance, self.model.frozen(self.amp):
            for numbers in ranges:
                yield numbers, self.images(numbers)
                advance(len(numbers))

    def images(self, numbers: range) -> Tensor:
        """The samples of some numbers."""
        return sample(
            self.model,
            labels=None if self.labels is None else self.labels[numbers.start : numbers.stop],
            noise=sample_inputs(self.model, self.seed).noise(numbers.start, numbers.stop),
            sample_model=self.sample_model,
            truncation=self.truncation,
            batch_size=self.batch_size,
        )

    def image_size(self) -> tuple[int, int]:
        """Height and width, found by making an image."""
        height, width = self.images(range(1)).shape[2:]
        return height, width


def plan_samples(
    model: ConditionalGAN,
    classes: list[int] | None = None,
    num_per_class: int | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    **options: Any,
) -> SampleSet:
    """Chooses which samples to make.

    With ``num_samples``, classes are drawn uniformly: these are the samples that an evaluation scores. Otherwise, those of the
    first class come first, then those of the second, and so on.

    Args:
        model: As :func:`~mmsagan.apis.init_model` gives it.
        classes: The classes; None for all.
        num_per_class: Samples a class; None for 8.
        num_samples: Samples altogether, of classes drawn uniformly. An unconditional model has this argument only; None is 64.
        seed: Of noise and classes.
        **options: Further arguments of :class:`SampleSet`.

    Raises:
        ConfigError: The arguments do not fit the model.
    """
    if not model.num_classes and (classes is not None or num_per_class is not None):
        raise ConfigError('the model has no classes: give --num-samples in the place of --labels and --num-per-class')
    if num_samples is not None and (classes is not None or num_per_class is not None):
        raise ConfigError('--num-samples draws the classes: give it without --labels and --num-per-class')
    if num_samples is not None or not model.num_classes:
        num_samples = num_samples or 64
        _, labels = sample_inputs(model, seed).draw(0, num_samples)
        columns = math.ceil(math.sqrt(num_samples))
    else:
        columns = num_per_class or 8
        labels = torch.tensor(classes or range(model.num_classes)).repeat_interleave(columns)
        num_samples = len(labels)
        model.check_label(labels, num_samples)
    return SampleSet(model, num_samples, labels, columns, seed, **options)


def parse_classes(text: str) -> list[int]:
    """Classes as they are written on a command line, each once.

    Raises:
        ConfigError: The text is not of that form.

    Example:
        >>> parse_classes('1,5,7-9')
        [1, 5, 7, 8, 9]
    """
    classes: list[int] = []
    for part in text.split(','):
        found = re.fullmatch(r'(\d{1,6})(?:-(\d{1,6}))?', part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise ConfigError(f'classes {text!r}: {part!r} is none; write numbers and ranges, such as 0-9 or 1,5,7-9')
        classes += range(first, last + 1)
    return list(dict.fromkeys(classes))
