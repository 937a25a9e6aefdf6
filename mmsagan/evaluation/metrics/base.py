"""What the metrics share: arguments, names, and their place in the evaluator's plan."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from mmsagan.errors import ConfigError
from mmsagan.evaluation.accumulators import Accumulator
from mmsagan.evaluation.extractors import FeatureSource, extractor_config
from mmsagan.evaluation.resizing import Resize


class FeatureMetric(ABC):
    """A number from the features, or class probabilities, of generated and perhaps real images.

    The evaluator asks for an accumulator, feeds it, and hands it to :meth:`compute`. It makes the images once for all metrics
    of a ``sample_model``, and runs an extractor once for all metrics with the same resize.

    Args:
        fake_nums: Number of samples.
        real_nums: Number of real images, drawn at random; -1 for all.
        inception_style: 'StyleGAN' (Tero Karras' Inception), 'PyTorch' (pytorch-fid's, as in StudioGAN) or 'digits'.
        inception_path: The extractor's file; None fetches it into the cache.
        extractor: Config of an extractor, in place of the two above.
        sample_model: 'orig' or 'ema'; None takes the moving average if there is one.
        prefix: What the results' names start with; None: the metric's short name and the extractor, such as ``FID-digits``.
        resize: How images are resized before the extractor sees them; None feeds them as they are.

    Raises:
        ConfigError: An argument is out of range, or there is no such extractor.
    """

    short_name: str
    output = 'features'
    results: Sequence[str]
    needs_real = True
    # Whether compute() must run on all processes, rather than on the first one alone.
    collective = False
    # What sets the metric's accumulator apart; metrics with equal keys share one.
    accumulator_key: tuple

    def __init__(
        self,
        fake_nums: int,
        real_nums: int = -1,
        inception_style: str = 'StyleGAN',
        inception_path: str | None = None,
        extractor: dict | None = None,
        sample_model: str | None = None,
        prefix: str | None = None,
        resize: Resize | None = None,
    ):
        config = extractor or extractor_config(inception_style, inception_path)
        self.source = FeatureSource.of(config, resize)
        self.prefix = prefix or self.short_name + self.source.suffix
        self.fake_nums = fake_nums
        self.real_nums = real_nums
        self.sample_model = sample_model
        self.real: Accumulator | None = None
        for name, least in (('fake_nums', 1), ('real_nums', -1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least or (name == 'real_nums' and value == 0):
                raise ConfigError(f'{self.prefix}: {name} must be a positive number{" or -1" * (least < 0)}, got {value!r}')
        if sample_model not in (None, 'orig', 'ema'):
            raise ConfigError(f"{self.prefix}: sample_model must be 'orig' or 'ema', got {sample_model!r}")

    @property
    def result_names(self) -> list[str]:
        """Names under which the results appear, ``<prefix>/<result>``."""
        return [f'{self.prefix}/{name}' for name in self.results]

    def check(self, width: int, class_counts: list[int] | None) -> None:  # noqa: B027 (most metrics have nothing to check)
        """Finds out, before anything is sampled, whether the metric can be computed; loads what it needs.

        Args:
            width: Length of a feature or probability vector.
            class_counts: How many samples of each class there will be; None where classes are not known.

        Raises:
            MMSAGANError: It cannot.
        """

    @abstractmethod
    def new_accumulator(self, num_samples: int, width: int, device: torch.device) -> Accumulator:
        """What collects the samples, generated or real."""

    @property
    def lacks_real(self) -> bool:
        """Whether real images have to be extracted before the metric can be computed."""
        return self.needs_real and self.real is None

    def take_real(self, accumulator: Accumulator, name: str, classes: Sequence[str] | None) -> None:
        """Receives the real images' accumulator; the metric keeps it for later evaluations."""
        self.real = accumulator

    @abstractmethod
    def compute(self, fake: Accumulator) -> dict:
        """The results, by the names in ``results``."""
