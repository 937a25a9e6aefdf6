"""One pass for any number of metrics: images are made once a sampled model, features once an extractor and resize."""

import copy
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from mmengine.dist import broadcast, is_distributed
from mmengine.evaluator import Evaluator as MMEngineEvaluator
from mmengine.logging import print_log
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.evaluation.extractors import FeatureExtractor, FeatureSource
from mmsagan.evaluation.images import GeneratedImages, ImageSource, RealImages, my_ranges, num_batches
from mmsagan.evaluation.metrics import FeatureMetric, FrechetInceptionDistance
from mmsagan.evaluation.plan import Plan, exact_arithmetic, extract
from mmsagan.evaluation.sampling import SampleInputs, with_standing_statistics
from mmsagan.models import ConditionalGAN
from mmsagan.models.layers.spectral_norm import fold_spectral_norm
from mmsagan.registry import EVALUATOR, METRICS
from mmsagan.utils.distributed import from_main_process
from mmsagan.utils.modules import unwrap
from mmsagan.utils.progress import progress_bar

OnBatch = Callable[[], None]
HELD_OUT = 'held_out/'


@EVALUATOR.register_module()
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
            ``held_out/<prefix>/<result>``. Metrics of all classes in turn, such as IntraFID, leave them out.

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
        for name, value, least in (
            ('seed', seed, 0),
            ('standing_steps', standing_steps, 0),
            ('standing_batch_size', standing_batch_size, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f'evaluator: {name} must be a whole number of at least {least}, got {value!r}')
        for metric in self.metrics:
            if inception_pkl is not None and isinstance(metric, FrechetInceptionDistance):
                metric.take_default_file(inception_pkl)
        self._check_names()
        self.seed = seed
        self.standing_steps = standing_steps
        self.standing_batch_size = standing_batch_size
        self.held_out = None if held_out is None else RealImages(held_out, seed=seed)
        self._held_out_results: dict = {}
        self._extractors: dict[str, FeatureExtractor] = {}
        self._widths: dict[tuple[FeatureSource, str], int] = {}
        self._is_prepared = False

    def _check_names(self) -> None:
        if not self.metrics:
            raise ConfigError('evaluator: there are no metrics')
        prefixes = [metric.prefix for metric in self.metrics]
        double = next((prefix for prefix in prefixes if prefixes.count(prefix) > 1), None)
        if double is not None:
            raise ConfigError(f'evaluator: two metrics are named {double!r}; give them different values of prefix')
        of_file: dict[str, FrechetInceptionDistance] = {}
        for metric in self.metrics:
            if isinstance(metric, FrechetInceptionDistance) and metric.inception_pkl is not None:
                other = of_file.setdefault(metric.inception_pkl, metric)
                if (other.real_nums, other.source) != (metric.real_nums, metric.source):
                    raise ConfigError(
                        f'evaluator: {other.prefix} and {metric.prefix} ask for different real statistics in the same file, '
                        f'{metric.inception_pkl}; give them different values of inception_pkl'
                    )

    @property
    def result_names(self) -> list[str]:
        """Names of all results of a generator."""
        return [name for metric in self.metrics for name in metric.result_names]

    @property
    def best_rules(self) -> dict[str, str]:
        """By which results a best checkpoint is worth keeping, IS and FID, and whether 'greater' or 'less' is better."""
        return {f'{metric.prefix}/{name}': rule for metric in self.metrics for name, rule in metric.best.items()}

    # --------------------------------------------------------------------------------------------------- before sampling

    def prepare(
        self,
        device: torch.device,
        batch_size: int,
        real_images: RealImages | None = None,
        model: ConditionalGAN | None = None,
        image_size: int = 32,
    ) -> None:
        """Builds the extractors, extracts the real images, and so finds every mistake that shows before images are made.

        Done once; later calls return at once.

        Args:
            device: Where extractors run.
            batch_size: Images at a time.
            real_images: The real images; used if a metric needs them.
            model: The GAN to be evaluated; None for images from elsewhere.
            image_size: Of the images that will be evaluated.

        Raises:
            MMSAGANError: The evaluation cannot work.
        """
        if self._is_prepared:
            return
        inputs = None if model is None else self._inputs(model)
        for metric in self.metrics:
            if model is not None:
                model.sampled_network(metric.sample_model)
            width = self._width(metric, device, image_size)
            metric.check(width, None if inputs is None else _class_counts(inputs, metric.fake_nums), real_images)
        held_out_images = self.held_out if self._held_out_metrics else None
        held_out = self._plan(held_out_images, self._held_out_metrics, device) if held_out_images else None
        self._extract_real(real_images, batch_size, device)
        if held_out and held_out_images:
            self._held_out_results = {
                f'{HELD_OUT}{name}': value for name, value in self._score(held_out, held_out_images, batch_size, device).items()
            }
        self._is_prepared = True

    def prepare_for_model(self, model: ConditionalGAN, batch_size: int, real_images: RealImages | None) -> None:
        """The same for a GAN's samples."""
        self.prepare(model.device, batch_size, real_images, model, getattr(unwrap(model.generator), 'output_scale', 32))

    @property
    def _held_out_metrics(self) -> list[FeatureMetric]:
        # Class by class there are seldom enough of them.
        return [metric for metric in self.metrics if not metric.collective]

    def _inputs(self, model: ConditionalGAN) -> SampleInputs:
        return SampleInputs(model.noise_size, model.num_classes, (self.seed, 0))

    def _width(self, metric: FeatureMetric, device: torch.device, image_size: int) -> int:
        """Length of the vectors a metric will get, found by extracting from two images."""
        source = metric.source
        if source.config not in self._extractors:
            self._extractors[source.config] = source.build().to(device)
        if (source, metric.output) not in self._widths:
            probe = torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8, device=device)
            with torch.no_grad():
                values = extract(self._extractors[source.config], source, probe, {metric.output})
            self._widths[source, metric.output] = values[metric.output].shape[1]
        return self._widths[source, metric.output]

    def _extract_real(self, images: RealImages | None, batch_size: int, device: torch.device) -> None:
        """Extracts what the metrics need of the real images and do not have from a file, in one pass."""
        metrics = [metric for metric in self.metrics if metric.lacks_real]
        if not metrics:
            return
        if images is None:
            raise ConfigError(
                f"{metrics[0].prefix} needs real images: state the dataset of the evaluation's data loader, or inception_pkl"
            )
        plan = Plan()
        for metric in metrics:
            if metric.real_nums > len(images):
                raise ConfigError(f'{metric.prefix}: real_nums={metric.real_nums}, but {images.name} has {len(images)} images')
            count = len(images) if metric.real_nums < 0 else metric.real_nums
            metric.check_real(count, images)
            plan.add(metric, count, self._widths[metric.source, metric.output], device)
        self._run(plan, images, batch_size, device)
        for metric, sink in plan.of_metric.items():
            metric.take_real(sink.accumulator, images)

    # -------------------------------------------------------------------------------------------------------- evaluation

    def evaluate_model(
        self,
        model: ConditionalGAN,
        real_images: RealImages | None,
        batch_size: int,
        on_batch: OnBatch = lambda: None,
    ) -> dict:
        """Scores a GAN's samples.

        Args:
            model: The GAN, without a wrapper; it stays as it is.
            real_images: The real images; used if a metric needs them.
            batch_size: Images at a time, sampled and extracted.
            on_batch: Called after each batch of samples.

        Returns:
            Results by name, in the order of the metrics; those of held-out images come last.
        """
        self.prepare_for_model(model, batch_size, real_images)
        results = {}
        for network, metrics in self._groups(model).items():
            name = f'samples ({"ema" if network is model.generator_ema else "orig"})'
            generator = self._evaluated_copy(network, model)
            images = GeneratedImages(generator, self._inputs(model), _most_samples(metrics), name)
            results.update(self.score(images, batch_size, model.device, metrics, on_batch))
        return {**{name: results[name] for name in self.result_names}, **self._held_out_results}

    def num_batches(self, model: ConditionalGAN, batch_size: int) -> int:
        """Number of batches of samples that this process makes in an evaluation."""
        return sum(num_batches(_most_samples(metrics), batch_size) for metrics in self._groups(model).values())

    def _groups(self, model: ConditionalGAN) -> dict[nn.Module, list[FeatureMetric]]:
        """The metrics of each sampled network."""
        groups: dict[nn.Module, list[FeatureMetric]] = {}
        for metric in self.metrics:
            groups.setdefault(model.sampled_network(metric.sample_model), []).append(metric)
        return groups

    def _evaluated_copy(self, network: nn.Module, model: ConditionalGAN) -> nn.Module:
        """The network as the first process has it: batch statistics may differ between processes, and only its are saved."""
        network = copy.deepcopy(network).eval()
        if is_distributed():
            for value in network.state_dict().values():
                broadcast(value)
        if self.standing_steps:
            inputs = SampleInputs(model.noise_size, model.num_classes, (self.seed, 1))
            with exact_arithmetic():
                network = with_standing_statistics(network, inputs, self.standing_steps, self.standing_batch_size)
        return fold_spectral_norm(network)

    def score(
        self,
        images: ImageSource,
        batch_size: int,
        device: torch.device,
        metrics: Iterable[FeatureMetric] | None = None,
        on_batch: OnBatch = lambda: None,
    ) -> dict:
        """Scores images from any source, at most ``fake_nums`` of them a metric. To be called after :meth:`prepare`.

        Args:
            images: The images.
            batch_size: Images at a time.
            device: Where extractors run.
            metrics: The metrics to compute; None for all.
            on_batch: Called after each batch.

        Returns:
            Results by name.
        """
        plan = self._plan(images, self.metrics if metrics is None else metrics, device)
        return self._score(plan, images, batch_size, device, on_batch)

    def _plan(self, images: ImageSource, metrics: Iterable[FeatureMetric], device: torch.device) -> Plan:
        plan = Plan()
        for metric in metrics:
            count = min(metric.fake_nums, len(images))
            plan.add(metric, count, self._widths[metric.source, metric.output], device)
        return plan

    def _score(
        self, plan: Plan, images: ImageSource, batch_size: int, device: torch.device, on_batch: OnBatch = lambda: None
    ) -> dict:
        self._run(plan, images, batch_size, device, on_batch)
        results = {}
        for metric, sink in plan.of_metric.items():
            # The arithmetic of most metrics is not worth sharing out.
            values = metric.compute(sink.accumulator) if metric.collective else _compute_once(metric, sink.accumulator)
            results.update({f'{metric.prefix}/{name}': value for name, value in values.items()})
        return results

    @torch.no_grad()
    def _run(
        self, plan: Plan, images: ImageSource, batch_size: int, device: torch.device, on_batch: OnBatch = lambda: None
    ) -> None:
        """The pass: every image once, through every extractor once."""
        outputs = plan.outputs()
        started, count = time.perf_counter(), plan.num_images
        share = sum(map(len, my_ranges(count, batch_size)))
        with progress_bar(images.name, share) as advance, exact_arithmetic():
            for batch in images.batches(count, batch_size, device):
                for source, wanted in outputs.items():
                    values = extract(self._extractors[source.config], source, batch.images, wanted)
                    for sink in plan.sinks.values():
                        if sink.source == source:
                            sink.take(values[sink.output], batch)
                advance(len(batch.index))
                on_batch()
        for sink in plan.sinks.values():
            sink.accumulator.finish()
        seconds = time.perf_counter() - started
        print_log(f'{count} images of {images.name} in {seconds:.1f} s ({count / seconds:.0f} images/s)', logger='current')


def _most_samples(metrics: Iterable[FeatureMetric]) -> int:
    return max(metric.fake_nums for metric in metrics)


def _compute_once(metric: FeatureMetric, accumulator) -> dict:
    return from_main_process(lambda: metric.compute(accumulator))


def _class_counts(inputs: SampleInputs, num_samples: int) -> list[int] | None:
    if not inputs.num_classes:
        return None
    return torch.bincount(inputs.labels(0, num_samples), minlength=inputs.num_classes).tolist()
