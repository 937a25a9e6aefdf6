"""What one pass over a set of images has to feed: metrics that ask for the same share it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.accumulators import Accumulator
from mmsagan.evaluation.extractors import FeatureExtractor, FeatureSource
from mmsagan.evaluation.images import ImageBatch
from mmsagan.evaluation.metrics import FeatureMetric


@dataclass
class Sink:
    """An accumulator, what it wants of the extracted values, and the number of images that it takes."""

    source: FeatureSource
    output: str
    accumulator: Accumulator
    num_images: int

    def take(self, values: Tensor, batch: ImageBatch) -> None:
        """Hands the accumulator those of a batch's values that it wants."""
        wanted = batch.index < self.num_images
        if not wanted.all():
            values = values[wanted.to(values.device)]
        self.accumulator.update(values, batch.index[wanted].to(values.device), batch.label[wanted])


@dataclass
class Plan:
    """The sinks of a pass, and the sink of every metric."""

    sinks: dict[tuple, Sink] = field(default_factory=dict)
    of_metric: dict[FeatureMetric, Sink] = field(default_factory=dict)

    def add(self, metric: FeatureMetric, num_images: int, width: int, device: torch.device) -> None:
        """Plans for a metric; ``width`` is the length of the vectors that it gets."""
        key = (metric.source, metric.output, metric.accumulator_key, num_images)
        if key not in self.sinks:
            accumulator = metric.new_accumulator(num_images, width, device)
            self.sinks[key] = Sink(metric.source, metric.output, accumulator, num_images)
        self.of_metric[metric] = self.sinks[key]

    @property
    def num_images(self) -> int:
        """Number of images that the pass needs."""
        return max(sink.num_images for sink in self.sinks.values())

    def outputs(self) -> dict[FeatureSource, set[str]]:
        """What each extractor has to give."""
        outputs: dict[FeatureSource, set[str]] = {}
        for sink in self.sinks.values():
            outputs.setdefault(sink.source, set()).add(sink.output)
        return outputs


def extract(extractor: FeatureExtractor, source: FeatureSource, images: Tensor, outputs: set[str]) -> dict[str, Tensor]:
    """Runs an extractor on images (N, 3, H, W) uint8.

    Raises:
        ConfigError: It does not give what is asked for.
        DataError: It gives NaN or Inf.
    """
    values = extractor(images if source.resize is None else source.resize(images), outputs)
    for output in outputs:
        if output not in values or values[output].shape[:1] != images.shape[:1] or values[output].ndim != 2:
            raise ConfigError(f'the extractor {source.name!r} gives no {output} (N, D)')
        if not values[output].isfinite().all():
            raise DataError(f'the {output} of {source.name!r} hold NaN or Inf')
    return values


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Within it, GPUs compute in full float32, and convolutions by the same algorithms whatever the batch size.

    TF32 and algorithms chosen by trial would move rounded pixels, and with them the scores, from one batch size to another.
    """
    matmul = torch.backends.cuda.matmul
    allowed, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = allowed
