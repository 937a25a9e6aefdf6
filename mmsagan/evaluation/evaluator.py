"""One pass for any number of metrics: images are made once a sampled model, features once an extractor and resize."""

import copy
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from mmengine.dist import broadcast, is_distributed
from mmengine.evaluator import Evaluator as MMEngineEvaluator
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.accumulators import Accumulator
from mmsagan.evaluation.extractors import FeatureExtractor, FeatureSource
from mmsagan.evaluation.images import GeneratedImages, ImageBatch, ImageSource, RealImages, my_ranges
from mmsagan.evaluation.metrics import FeatureMetric, FrechetInceptionDistance
from mmsagan.evaluation.sampling import SampleInputs, with_standing_statistics
from mmsagan.models import ConditionalGAN
from mmsagan.registry import EVALUATOR, METRICS
from mmsagan.utils.distributed import from_main_process
from mmsagan.utils.modules import unwrap
from mmsagan.utils.progress import progress_bar

OnBatch = Callable[[], None]
HELD_OUT = 'held_out/'


@dataclass
class _Sink:
    """An accumulator, what it wants of the extracted values, and the number of images that it takes."""

    source: FeatureSource
    output: str
    accumulator: Accumulator
    num_images: int

    def take(self, values: Tensor, batch: ImageBatch) -> None:
        wanted = batch.index < self.num_images
        if not wanted.all():
            values = values[wanted.to(values.device)]
        self.accumulator.update(values, batch.index[wanted].to(values.device), batch.label[wanted])


@dataclass
class _Plan:
    """The sinks of one pass over a set of images; metrics that ask for the same share one."""

    sinks: dict[tuple, _Sink] = field(default_factory=dict)
    of_metric: dict[FeatureMetric, _Sink] = field(default_factory=dict)

    def add(self, metric: FeatureMetric, num_images: int, width: int, device: torch.device) -> None:
        key = (metric.source, metric.output, metric.accumulator_key, num_images)
        if key not in self.sinks:
            accumulator = metric.new_accumulator(num_images, width, device)
            self.sinks[key] = _Sink(metric.source, metric.output, accumulator, num_images)
        self.of_metric[metric] = self.sinks[key]

    @property
    def num_images(self) -> int:
        return max(sink.num_images for sink in self.sinks.values())

    def outputs(self) -> dict[FeatureSource, set[str]]:
        """What each extractor has to give."""
        outputs: dict[FeatureSource, set[str]] = {}
        for sink in self.sinks.values():
            outputs.setdefault(sink.source, set()).add(sink.output)
        return outputs


@EVALUATOR.register_module(name=['Evaluator', 'GANEvaluator'])
class Evaluator(MMEngineEvaluator):
    """Evaluates a GAN, or images from anywhere, with any number of metrics.

    Results do not depend on batch size or number of processes: sample ``i`` is made from noise and a label of its own, and the
    processes' sums are brought together before a metric is computed.

    Args:
        metrics: Configs of metrics, see :class:`~mmsagan.evaluation.metrics.FeatureMetric`.
        seed: Of noise, labels, and the choice of real images.
        standing_steps: Batches over which G's batch-norm statistics are computed anew before sampling; 0: the trained ones.
        standing_batch_size: Size of these batches.
        inception_pkl: File of real statistics for every FID that states none, see
            :class:`~mmsagan.evaluation.metrics.FrechetInceptionDistance`; an extractor other than StyleGAN's adds its suffix.
        held_out: Config of a data set of real images, scored like samples, as a yardstick; its results are named
            ``held_out/<prefix>/<result>``.

    Raises:
        ConfigError: There are no metrics, two have the same name, or a number is out of range.
    """

    def __init__(
        self,
        metrics: dict | Sequence[dict],
        seed: int = 0,
        standing_steps: int = 0,
        standing_batch_size: int = 64,
        inception_pkl: str | None = None,
        held_out: dict | None = None,
    ):
        metrics = [metrics] if isinstance(metrics, dict) else metrics
        super().__init__([METRICS.build(metric) if isinstance(metric, dict) else metric for metric in metrics])
        if standing_steps < 0 or standing_batch_size < 1:
            raise ConfigError(f'evaluator: standing_steps={standing_steps}, standing_batch_size={standing_batch_size}')
        if not self.metrics:
            raise ConfigError('evaluator: there are no metrics')
        prefixes = [metric.prefix for metric in self.metrics]
        double = next((prefix for prefix in prefixes if prefixes.count(prefix) > 1), None)
        if double is not None:
            raise ConfigError(f'evaluator: two metrics are named {double!r}; give them different values of prefix')
        for metric in self.metrics:
            if inception_pkl is not None and isinstance(metric, FrechetInceptionDistance):
                metric.take_default_file(inception_pkl)
        self.seed = seed
        self.standing_steps = standing_steps
        self.standing_batch_size = standing_batch_size
        self.held_out = held_out
        self._extractors: dict[str, FeatureExtractor] = {}
        self._widths: dict[tuple[FeatureSource, str], int] = {}
        self._real_images: ImageSource | None = None
        self._held_out_images: ImageSource | None = None
        self._held_out_results: dict | None = None

    @property
    def result_names(self) -> list[str]:
        """Names of all results of a generator."""
        return [name for metric in self.metrics for name in metric.result_names]

    # --------------------------------------------------------------------------------------------------- before sampling

    def prepare(
        self,
        device: torch.device,
        real_images: Callable[[], ImageSource],
        model: ConditionalGAN | None = None,
        image_size: int = 32,
    ) -> None:
        """Builds the extractors and finds every mistake that shows before images are made: files, sizes, numbers of samples.

        Args:
            device: Where extractors run.
            real_images: Gives the real images, if a metric needs them.
            model: The GAN to be evaluated; None for images from elsewhere.
            image_size: Of the images that will be evaluated.

        Raises:
            MMSAGANError: The evaluation cannot work.
        """
        if self._widths:
            return
        inputs = None if model is None else self._inputs(model)
        for metric in self.metrics:
            if model is not None:
                model.sampled_network(metric.sample_model)
            width = self._width(metric, device, image_size)
            metric.check(width, None if inputs is None else _class_counts(inputs, metric.fake_nums))
        if any(metric.lacks_real for metric in self.metrics):
            self._real_images = real_images()
            self._check_real_nums(self._real_images)
        if self.held_out is not None:
            self._held_out_images = RealImages.from_loader(dict(dataset=self.held_out), self.seed)

    def prepare_for_model(self, model: ConditionalGAN, real_images: Callable[[], ImageSource]) -> None:
        """The same for a GAN's samples."""
        self.prepare(model.device, real_images, model, getattr(unwrap(model.generator), 'output_scale', 32))

    def _check_real_nums(self, images: ImageSource) -> None:
        for metric in self.metrics:
            if metric.lacks_real and metric.real_nums > len(images):
                raise ConfigError(f'{metric.prefix}: real_nums={metric.real_nums}, but {images.name} has {len(images)} images')

    def _inputs(self, model: ConditionalGAN) -> SampleInputs:
        return SampleInputs(model.noise_size, model.num_classes, (self.seed, 0))

    def _width(self, metric: FeatureMetric, device: torch.device, image_size: int) -> int:
        """Length of the vectors a metric will get, found by extracting from two images."""
        key = (metric.source, metric.output)
        if key not in self._widths:
            extractor = self._extractors.setdefault(metric.source.config, metric.source.build().to(device))
            probe = torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8, device=device)
            with torch.no_grad():
                values = _extract(extractor, metric.source, probe, {metric.output})
            self._widths[key] = values[metric.output].shape[1]
        return self._widths[key]

    # -------------------------------------------------------------------------------------------------------- evaluation

    def evaluate_model(
        self,
        model: ConditionalGAN,
        real_images: Callable[[], ImageSource],
        batch_size: int,
        on_batch: OnBatch = lambda: None,
    ) -> dict:
        """Scores a GAN's samples.

        Args:
            model: The GAN, without a wrapper; it stays as it is.
            real_images: Gives the real images, if a metric needs them.
            batch_size: Images at a time, sampled and extracted.
            on_batch: Called after each batch of samples.

        Returns:
            Results by name.
        """
        self.prepare_for_model(model, real_images)
        self.extract_real(batch_size, model.device)
        results = {}
        groups: dict[nn.Module, list[FeatureMetric]] = {}
        for metric in self.metrics:
            groups.setdefault(model.sampled_network(metric.sample_model), []).append(metric)
        for network, metrics in groups.items():
            name = f'samples ({"ema" if network is model.generator_ema else "orig"})'
            generator = self._evaluated_copy(network, model)
            count = max(metric.fake_nums for metric in metrics)
            images = GeneratedImages(generator, self._inputs(model), count, name)
            results.update(self.score(images, batch_size, model.device, metrics, on_batch))
        if self.held_out is not None:
            results.update(self._held_out_scores(batch_size, model.device))
        return {name: results[name] for name in sorted(results, key=self._position)}

    def num_batches(self, model: ConditionalGAN, batch_size: int) -> int:
        """Number of batches of samples that this process makes in an evaluation."""
        counts: dict[nn.Module, int] = {}
        for metric in self.metrics:
            network = model.sampled_network(metric.sample_model)
            counts[network] = max(counts.get(network, 0), metric.fake_nums)
        return sum(len(my_ranges(count, batch_size)) for count in counts.values())

    def _position(self, name: str) -> int:
        """Results are listed in the order of the metrics, the held-out images' after the samples'."""
        names = self.result_names
        plain = name.removeprefix(HELD_OUT)
        return names.index(plain) + (len(names) if plain != name else 0)

    def _evaluated_copy(self, network: nn.Module, model: ConditionalGAN) -> nn.Module:
        """The network as the first process has it: batch statistics may differ between processes, and only its are saved."""
        network = copy.deepcopy(network).eval()
        if is_distributed():
            for value in network.state_dict().values():
                broadcast(value)
        if self.standing_steps:
            inputs = SampleInputs(model.noise_size, model.num_classes, (self.seed, 1))
            network = with_standing_statistics(network, inputs, self.standing_steps, self.standing_batch_size)
        return network

    def _held_out_scores(self, batch_size: int, device: torch.device) -> dict:
        if self._held_out_results is None:
            # Class by class there are seldom enough of them.
            metrics = [metric for metric in self.metrics if not metric.collective]
            results = self.score(self._held_out_images, batch_size, device, metrics)
            self._held_out_results = {f'{HELD_OUT}{name}': value for name, value in results.items()}
        return self._held_out_results

    def extract_real(self, batch_size: int, device: torch.device) -> None:
        """Extracts what the metrics need of the real images and do not have yet, in one pass."""
        metrics = [metric for metric in self.metrics if metric.lacks_real]
        if not metrics:
            return
        images, self._real_images = self._real_images, None
        plan = _Plan()
        for metric in metrics:
            count = len(images) if metric.real_nums < 0 else metric.real_nums
            plan.add(metric, count, self._widths[metric.source, metric.output], device)
        self._run(plan, images, batch_size, device)
        for metric, sink in plan.of_metric.items():
            metric.take_real(sink.accumulator, images.name, images.classes)

    def score(
        self,
        images: ImageSource,
        batch_size: int,
        device: torch.device,
        metrics: Iterable[FeatureMetric] | None = None,
        on_batch: OnBatch = lambda: None,
    ) -> dict:
        """Scores images from any source, at most ``fake_nums`` of them a metric.

        Args:
            images: The images.
            batch_size: Images at a time.
            device: Where extractors run.
            metrics: The metrics to compute; None for all.
            on_batch: Called after each batch.

        Returns:
            Results by name.
        """
        plan = _Plan()
        for metric in self.metrics if metrics is None else metrics:
            count = min(metric.fake_nums, len(images))
            plan.add(metric, count, self._widths[metric.source, metric.output], device)
        self._run(plan, images, batch_size, device, on_batch)
        results = {}
        for metric, sink in plan.of_metric.items():
            # The arithmetic of most metrics is not worth sharing out.
            values = metric.compute(sink.accumulator) if metric.collective else _compute_once(metric, sink.accumulator)
            results.update({f'{metric.prefix}/{name}': value for name, value in values.items()})
        return results

    @torch.no_grad()
    def _run(
        self, plan: _Plan, images: ImageSource, batch_size: int, device: torch.device, on_batch: OnBatch = lambda: None
    ) -> None:
        """The pass: every image once, through every extractor once."""
        outputs = plan.outputs()
        started, steps = time.time(), sum(map(len, my_ranges(plan.num_images, batch_size)))
        with progress_bar(images.name, steps) as advance:
            for batch in images.batches(plan.num_images, batch_size, device):
                for source, wanted in outputs.items():
                    values = _extract(self._extractors[source.config], source, batch.images, wanted)
                    for sink in plan.sinks.values():
                        if sink.source == source:
                            sink.take(values[sink.output], batch)
                advance(len(batch.index))
                on_batch()
        for sink in plan.sinks.values():
            sink.accumulator.finish()
        seconds = time.time() - started
        print_log(
            f'{plan.num_images} images of {images.name} in {seconds:.1f} s ({plan.num_images / seconds:.0f} images/s)',
            logger='current',
            level=logging.INFO,
        )


def _extract(extractor: FeatureExtractor, source: FeatureSource, images: Tensor, outputs: set[str]) -> dict[str, Tensor]:
    values = extractor(images if source.resize is None else source.resize(images), outputs)
    for output in outputs:
        if output not in values or values[output].shape[:1] != images.shape[:1] or values[output].ndim != 2:
            raise ConfigError(f'the extractor {source.name!r} gives no {output} (N, D)')
        if not values[output].isfinite().all():
            raise DataError(f'the {output} of {source.name!r} hold NaN or Inf')
    return values


def _compute_once(metric: FeatureMetric, accumulator: Accumulator) -> dict:
    return from_main_process(lambda: metric.compute(accumulator))


def _class_counts(inputs: SampleInputs, num_samples: int) -> list[int] | None:
    if not inputs.num_classes:
        return None
    return torch.bincount(inputs.labels(0, num_samples), minlength=inputs.num_classes).tolist()
