"""What the metrics share: a metric turns features into statistics (its accumulator), and statistics into numbers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.extractors import FeatureSource
from mmsagan.evaluation.images import RealImages, SampleInputs
from mmsagan.evaluation.moments import FeatureBank, float64_device


class FeatureMetric(ABC):
    """A metric of generated, and usually real, images by their features or class probabilities.

    The evaluator asks for accumulators, see :mod:`mmsagan.evaluation.moments`, and feeds them: that of the real images is
    kept as ``real``, that of the samples goes to :meth:`compute`.

    Args:
        fake_nums, real_nums: Number of samples, and of real images, drawn at random; -1 for all of these.
        inception_style: 'StyleGAN' (Tero Karras' Inception), 'PyTorch' (pytorch-fid's, as in StudioGAN), or another registered
            extractor. Defaults to ``default_style``.
        inception_path: Path of the extractor's file. Defaults to a cached download.
        extractor: Config of an extractor; replaces the two above.
        resize_mode: The extractor's ``resize``, if it has one, as :class:`~mmsagan.evaluation.PyTorchFIDInception` has.
        sample_model: 'orig' or 'ema'. Defaults to the moving average if there is one.
        quantize: Whether samples are rounded to uint8, as in files, unlike those of StudioGAN's published scores.
        dataset: Config of the real images, if they are not those of the evaluation's data loader; what it does not state is as
            there, so that ``dict(test_mode=True)`` means the test images.
        prefix: Prefix of the results' names. Defaults to the metric's short name and the extractor, such as ``FID-digits``.
        need_cond_input, fake_key, real_key, collect_device: Arguments of MMagic, which are ignored.
    """

    short_name: str  #: name of the metric
    results: Sequence[str]  #: names of its results, which are ``<prefix>/<result>`` in an evaluation
    output = 'features'  #: the extractor's output that it uses: 'features', 'probabilities' or 'spatial'
    default_style = 'StyleGAN'  #: the extractor of the published scores, which have the metric's name alone
    default_resize: str | None = None  #: their mode of resizing
    accumulator_key: tuple = (FeatureBank,)  #: what tells its accumulator from others; metrics with equal keys share one
    needs_real = True  #: whether it compares with real images, which are extracted unless ``real`` is set
    min_real = 1  #: smallest number of real images
    best: Mapping[str, str] = {}  #: results by which best checkpoints are kept, and whether 'greater' or 'less' is better
    collective = False  #: whether :meth:`compute` must be called on all processes, and not on the first alone
    class_counts: Tensor | None = None  #: number of samples that it wants of each class; None for random classes
    image_size: tuple[int, int] | None = None  #: height and width of the scored images, if known; the evaluator sets it

    def __init__(
        self,
        fake_nums: int = 50000,
        real_nums: int = -1,
        inception_style: str | None = None,
        inception_path: str | None = None,
        extractor: dict | None = None,
        resize_mode: str | None = None,
        sample_model: str | None = None,
        quantize: bool = True,
        dataset: dict | None = None,
        prefix: str | None = None,
        need_cond_input: bool = False,
        fake_key: str | None = None,
        real_key: str | None = None,
        collect_device: str = 'cpu',
    ):
        standard = FeatureSource.from_config(None, self.default_style, resize=self.default_resize)
        resize = resize_mode or (self.default_resize if extractor is None else None)
        source = FeatureSource.from_config(extractor, inception_style or self.default_style, inception_path, resize)
        self.source, kind = replace(source, quantize=quantize), source.kind
        if self.output not in kind.output_names:
            raise ConfigError(f'{self.short_name}: the extractor {source.name!r} gives no {self.output}')
        suffix = '' if source.suffix == standard.suffix else source.suffix or '-inception'
        short_name = self.short_name if 'probabilities' in kind.output_names else self.short_name.replace('FID', 'FD')
        self.prefix = short_name + suffix if prefix is None else prefix
        # Nobody should mistake another extractor's score for the standard one, or one of other features.
        is_inception = kind.is_inception and standard.kind.is_inception and source.suffix == kind.suffix
        if not is_inception and suffix.strip('-').lower() not in self.prefix.lower():
            self.prefix += suffix
        for name, value in (('fake_nums', fake_nums), ('real_nums', real_nums)):
            is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())  # MMagic writes 5e4
            if not is_whole or (value < 1 and (name, value) != ('real_nums', -1)):
                raise ConfigError(f'{self.prefix}: {name} must be a positive number, or real_nums -1, got {value!r}')
        if sample_model not in (None, 'orig', 'ema'):
            raise ConfigError(f"{self.prefix}: sample_model must be 'orig' or 'ema', got {sample_model!r}")
        self.fake_nums = int(fake_nums)
        self.real_nums = int(real_nums)
        self.sample_model = sample_model
        self.dataset = dataset
        self.real: Any = None

    def check(self, width: int, inputs: SampleInputs | None, real_images: RealImages | None) -> None:  # noqa: B027
        """Raises an MMSAGANError if the metric cannot be computed; called before images are extracted.

        ``width`` is the length of a feature or probability vector; ``inputs`` is None for images that no model has made.
        """

    def new_accumulator(self, num_samples: int, width: int, device: torch.device, is_real: bool = False) -> Any:
        """Creates an accumulator of samples, or of real images; by default one that keeps their features."""
        return FeatureBank(width, device)

    def take_real(self, accumulator: Any, images: RealImages) -> None:
        """Keeps the accumulator of the real images as ``real``, for this and later evaluations."""
        self.real = accumulator

    @abstractmethod
    def compute(self, fake: Any) -> dict:
        """Computes the results, by the names in ``results``, from the samples' accumulator."""


def as_float64(values) -> Tensor:
    """A float64 tensor of a tensor, or of anything that numpy takes for an array."""
    values = values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values, np.float64))
    return values.to(float64_device(values.device)).double()


def as_features(*sets) -> list[Tensor]:
    """Tensors of sets of features (N, D): float32 if all sets are, else float64. NaN, Inf or different D are a DataError."""
    is_single = all(str(getattr(values, 'dtype', None)).endswith('float32') for values in sets)
    tensors = [torch.as_tensor(values) if is_single else as_float64(values) for values in sets]
    tensors = [values.to(float64_device(values.device)) for values in tensors]  # sums are float64
    if any(values.ndim != 2 for values in tensors) or len({values.shape[-1] for values in tensors}) > 1:
        shapes = ' and '.join(str(tuple(values.shape)) for values in tensors)
        raise DataError(f'expected features (N, D) of the same length D, got shapes {shapes}')
    if not all(values.isfinite().all() for values in tensors):
        raise DataError('features contain NaN or Inf')
    return tensors
