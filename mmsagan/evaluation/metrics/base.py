"""What the metrics share: arguments, names, and their place in the evaluator's plan."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import torch

from mmsagan.errors import ConfigError
from mmsagan.evaluation.accumulators import Accumulator
from mmsagan.evaluation.extractors import FeatureSource, extractor_config
from mmsagan.evaluation.images import RealImages

Collected = TypeVar('Collected', bound=Accumulator)


class FeatureMetric(ABC, Generic[Collected]):
    """A number from the features, or class probabilities, of generated and perhaps real images.

    The evaluator asks for an accumulator, feeds it, and hands it to :meth:`compute`. It makes the images once for all metrics
    of a ``sample_model``, and runs an extractor once for all metrics with the same resize.

    Args:
        fake_nums: Number of samples.
        real_nums: Number of real images, drawn at random; -1 for all.
        inception_style: 'StyleGAN' (Tero Karras' Inception), 'PyTorch' (pytorch-fid's, as in StudioGAN), 'digits'
            or 'fashion'.
        inception_path: The extractor's file; None fetches it into the cache.
        extractor: Config of an extractor, in place of the two above.
        sample_model: 'orig' or 'ema'; None takes the moving average if there is one.
        prefix: What the results' names start with; None: the metric's short name and the extractor, such as ``FID-digits``.
        need_cond_input: MMagic's; without effect, as are the three below: conditional models always get labels.
        fake_key: MMagic's.
        real_key: MMagic's.
        collect_device: MMagic's.

    Raises:
        ConfigError: An argument is out of range, or there is no such extractor.
    """

    short_name: str
    output = 'features'
    results: Sequence[str]
    needs_real = True
    # Results by which a best checkpoint is worth keeping, and whether 'greater' or 'less' is better.
    best: Mapping[str, str] = {}
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
        need_cond_input: bool = False,
        fake_key: str | None = None,
        real_key: str | None = None,
        collect_device: str = 'cpu',
    ):
        config = extractor if extractor is not None else extractor_config(inception_style, inception_path)
        self.source = FeatureSource.of(config)
        self.prefix = self._name(prefix)
        self.fake_nums = self._count('fake_nums', fake_nums, least=1)
        self.real_nums = self._count('real_nums', real_nums, least=-1)
        self.sample_model = sample_model
        self.real: Collected | None = None
        if sample_model not in (None, 'orig', 'ema'):
            raise ConfigError(f"{self.prefix}: sample_model must be 'orig' or 'ema', got {sample_model!r}")

    def _name(self, prefix: str | None) -> str:
        """The prefix; nobody shall take another extractor's score for Inception's."""
        if prefix is None:
            return self.short_name + self.source.suffix
        carries_it = self.source.is_inception or self.source.suffix.strip('-').lower() in prefix.lower()
        return prefix if carries_it else prefix + self.source.suffix

    def _count(self, name: str, value, least: int) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())  # MMagic writes 5e4
        if not whole or value < least or value == 0:
            raise ConfigError(f'{self.prefix}: {name} must be a positive number{" or -1" * (least < 0)}, got {value!r}')
        return int(value)

    @property
    def result_names(self) -> list[str]:
        """Names under which the results appear, ``<prefix>/<result>``."""
        return [f'{self.prefix}/{name}' for name in self.results]

    def check(self, width: int, class_counts: list[int] | None, real_images: RealImages | None) -> None:  # noqa: B027
        """Finds out, before anything is extracted, whether the metric can be computed; loads what it needs.

        Args:
            width: Length of a feature or probability vector.
            class_counts: How many samples of each class there will be; None where classes are not known.
            real_images: The real images of the evaluation.

        Raises:
            MMSAGANError: It cannot.
        """

    @abstractmethod
    def new_accumulator(self, num_samples: int, width: int, device: torch.device) -> Collected:
        """What collects the samples, generated or real."""

    @property
    def lacks_real(self) -> bool:
        """Whether real images have to be extracted before the metric can be computed."""
        return self.needs_real and self.real is None

    @property
    def collected_real(self) -> Collected:
        """What was collected of the real images; the evaluator hands it over before :meth:`compute`."""
        assert self.real is not None
        return self.real

    def check_real(self, count: int, images: RealImages) -> None:  # noqa: B027
        """Raises an MMSAGANError if ``count`` real images of these are not what the metric needs."""

    def take_real(self, accumulator: Collected, images: RealImages) -> None:
        """Receives the real images' accumulator; the metric keeps it for later evaluations."""
        self.real = accumulator

    @abstractmethod
    def compute(self, fake: Collected) -> dict:
        """The results, by the names in ``results``."""
