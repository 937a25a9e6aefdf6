"""One pass for any number of metrics: each sample is generated once and goes through each extractor once per resize."""

import copy
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from mmengine.dist import broadcast, is_distributed
from mmengine.evaluator import Evaluator as MMEngineEvaluator
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.evaluation.extractors import FeatureExtractor, FeatureSource
from mmsagan.evaluation.images import (
    GeneratedImages,
    ImageSource,
    RealImages,
    SampleInputs,
    apply_standing_statistics,
    deterministic_float32,
    local_batches,
)
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.fid import FrechetInceptionDistance
from mmsagan.models import ConditionalGAN
from mmsagan.models.gan import unwrap
from mmsagan.models.layers.spectral_norm import fold_spectral_norm
from mmsagan.registry import EVALUATOR, EXTRACTORS, METRICS
from mmsagan.utils.processes import from_main_process
from mmsagan.utils.progress import progress_bar

HELD_OUT = 'held_out/'
Callback = Callable[[], None]


@EVALUATOR.register_module()
class Evaluator(MMEngineEvaluator):
    """Evaluates a GAN, or images from anywhere, with any number of metrics.

    Results do not depend on batch size or number of processes: sample ``i`` has its own noise and label, and the sums of the
    processes are combined before a metric is computed.

    Args:
        metrics: Configs of metrics, see :class:`~mmsagan.evaluation.FeatureMetric`.
        seed: Seed of noise, labels and the choice of real images.
        standing_steps: Number of batches from which the generator's batch-norm statistics are recomputed before sampling; 0
            keeps the trained ones.
        standing_batch_size: Size of these batches.
        inception_pkl: File of real statistics for each FID that has none of its own, see
            :class:`~mmsagan.evaluation.FrechetInceptionDistance`; an extractor other than StyleGAN's adds its suffix.
        held_out: Config of a data set of real images, scored like samples for comparison. Its results are called
            ``held_out/<prefix>/<result>``. It is ignored by metrics that compare class by class, such as IntraFID.
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
        if not self.metrics or seed < 0 or standing_steps < 0 or standing_batch_size < 1:
            raise ConfigError(
                'evaluator: needs metrics, seed and standing_steps of at least 0 and standing_batch_size of at least 1, got '
                f'{len(self.metrics)} metrics, {seed=}, {standing_steps=} and {standing_batch_size=}'
            )
        prefixes = [metric.prefix for metric in self.metrics]
        for metric in self.metrics:
            if prefixes.count(metric.prefix) > 1:
                raise ConfigError(f'evaluator: two metrics are named {metric.prefix!r}; give them different values of prefix')
            if isinstance(metric, FrechetInceptionDistance) and metric.inception_pkl is None and inception_pkl is not None:
                metric.use_shared_pkl(inception_pkl)
        self.seed = seed
        self.standing_steps = standing_steps
        self.standing_batch_size = standing_batch_size
        self.held_out = None if held_out is None else RealImages(held_out, seed=seed)
        self._held_out_results: dict = {}
        self._extractors: dict[str, FeatureExtractor] = {}
        self._widths: dict[tuple[FeatureSource, str], int] = {}
        self._is_prepared = False

    @property
    def result_names(self) -> list[str]:
        """Names of all results of a generator."""
        return [f'{metric.prefix}/{name}' for metric in self.metrics for name in metric.results]

    @property
    def best_rules(self) -> dict[str, str]:
        """The results by which best checkpoints are kept, IS and FID, and whether 'greater' or 'less' is better."""
        return {f'{metric.prefix}/{name}': rule for metric in self.metrics for name, rule in metric.best.items()}

    def prepare(
        self,
        device: torch.device,
        batch_size: int,
        real_images: RealImages | None = None,
        model: ConditionalGAN | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        """Builds the extractors and extracts the real images, so that mistakes are found before images are generated.

        Only the first call has an effect. Without a model, ``image_size`` is that of the images: height and width in pixels.
        """
        if self._is_prepared:
            return
        scale: Any = getattr(unwrap(model.generator) if model else None, 'output_scale', None)
        size = image_size or (scale and (scale, scale))
        probe = torch.zeros(2, 3, *(size or (32, 32)), dtype=torch.uint8, device=device)
        inputs = SampleInputs(model.noise_size, model.num_classes, (self.seed, 0)) if model else None
        counts: dict[FeatureMetric, int] = {}

        def check_size(images: RealImages) -> None:
            if size and images.image_size != size:
                (height, width), (real_height, real_width) = size, images.image_size
                raise ConfigError(
                    f'the images to be scored have {width}x{height} pixels, those of {images.name} {real_width}x{real_height}; '
                    'give all of them one size, with --size or Resize in the pipeline'
                )

        def check(metric: FeatureMetric, width: int) -> None:
            if model is not None:
                model.get_generator(metric.sample_model)
            metric.image_size = size
            metric.check(width, inputs, real_images)
            if not metric.needs_real or metric.real is not None:
                return
            if real_images is None:
                remedy = "a folder as --real, the dataset of the evaluation's data loader or, for FID, a file of statistics"
                raise ConfigError(f'{metric.prefix} needs real images: give {remedy}')
            counts[metric] = len(real_images) if metric.real_nums < 0 else metric.real_nums
            if not metric.min_real <= counts[metric] <= len(real_images):
                available = f'{real_images.name} has {len(real_images)} images, and it needs at least {metric.min_real}'
                raise ConfigError(f'{metric.prefix}: real_nums={metric.real_nums}, but {available}')
            check_size(real_images)

        # Before any extractor is built, which may mean that it is downloaded.
        known = {metric: metric.source.num_features for metric in self.metrics if metric.output == 'features'}
        for metric, width in known.items():
            if width is not None:
                check(metric, width)
        if self.held_out is not None:
            check_size(self.held_out)
        for metric in self.metrics:
            source = metric.source
            if source.config not in self._extractors:
                with torch.random.fork_rng(devices=[]):  # new weights are drawn before those of the file replace them
                    extractor = EXTRACTORS.build(json.loads(source.config))
                self._extractors[source.config] = extractor.eval().requires_grad_(False).to(device)
            if (source, metric.output) not in self._widths:
                with torch.no_grad():
                    values = source.extract(self._extractors[source.config], probe, {metric.output})
                self._widths[source, metric.output] = values[metric.output].shape[1]
            if known.get(metric) is None:
                check(metric, self._widths[source, metric.output])
        if real_images is not None:
            for metric, accumulator in self._accumulate(counts, real_images, batch_size, device, is_real=True).items():
                metric.take_real(accumulator, real_images)
        if self.held_out is not None:
            metrics = [metric for metric in self.metrics if not metric.collective]
            results = self.score(self.held_out, batch_size, device, metrics)
            self._held_out_results = {HELD_OUT + name: value for name, value in results.items()}
        self._is_prepared = True

    def evaluate_model(
        self, model: ConditionalGAN, real_images: RealImages | None, batch_size: int, on_batch: Callback = lambda: None
    ) -> dict:
        """Scores a GAN's samples; returns the results by name, those of held-out images last.

        The model is without a wrapper, and is not changed. ``batch_size`` images are sampled and extracted at a time, and
        ``on_batch`` is called after each batch of samples.
        """
        self.prepare(model.device, batch_size, real_images, model)
        inputs, standing_inputs = (
            SampleInputs(model.noise_size, model.num_classes, (self.seed, stream)) for stream in range(2)
        )
        groups: dict[nn.Module, list[FeatureMetric]] = defaultdict(list)
        for metric in self.metrics:
            groups[model.get_generator(metric.sample_model)].append(metric)
        results = {}
        for network, metrics in groups.items():
            # Batch statistics may differ between processes: those of the first are evaluated, as they are what is saved.
            generator = copy.deepcopy(network).eval()
            if is_distributed():
                for value in generator.state_dict().values():
                    broadcast(value)
            if self.standing_steps:
                steps = self.standing_steps, self.standing_batch_size
                with deterministic_float32():
                    generator = apply_standing_statistics(generator, standing_inputs, *steps)
            name = f'samples ({"ema" if network is model.generator_ema else "orig"})'
            num_samples = max(metric.fake_nums for metric in metrics)
            images = GeneratedImages(fold_spectral_norm(generator), inputs, num_samples, name)
            results.update(self.score(images, batch_size, model.device, metrics, on_batch))
        return {**{name: results[name] for name in self.result_names}, **self._held_out_results}

    def num_batches(self, model: ConditionalGAN, batch_size: int) -> int:
        """Number of batches of samples that this process generates in an evaluation."""
        counts: dict[nn.Module, int] = defaultdict(int)
        for metric in self.metrics:
            network = model.get_generator(metric.sample_model)
            counts[network] = max(counts[network], metric.fake_nums)
        return sum(len(local_batches(count, batch_size)) for count in counts.values())

    def score(
        self,
        images: ImageSource,
        batch_size: int,
        device: torch.device,
        metrics: Sequence[FeatureMetric] | None = None,
        on_batch: Callback = lambda: None,
    ) -> dict:
        """Scores images from any source, at most ``fake_nums`` of them per metric; by default with all metrics.

        Call :meth:`prepare` first, with the same device. ``on_batch`` is called after each batch.
        """
        counts = {metric: min(metric.fake_nums, len(images)) for metric in (self.metrics if metrics is None else metrics)}
        results = {}
        for metric, accumulator in self._accumulate(counts, images, batch_size, device, on_batch).items():
            compute = partial(metric.compute, accumulator)
            values = compute() if metric.collective else from_main_process(compute)
            results.update({f'{metric.prefix}/{name}': value for name, value in values.items()})
        return results

    @torch.no_grad()
    def _accumulate(
        self,
        counts: dict[FeatureMetric, int],
        images: ImageSource,
        batch_size: int,
        device: torch.device,
        on_batch: Callback = lambda: None,
        is_real: bool = False,
    ) -> dict[FeatureMetric, Any]:
        """Passes over the images once and returns each metric's accumulator of its first ``counts[metric]`` images.

        Metrics with the same source, output, kind of accumulator and count share an accumulator.
        """
        if not counts:
            return {}
        keys = {metric: (metric.source, metric.output, count, metric.accumulator_key) for metric, count in counts.items()}
        accumulators: dict[tuple, Any] = {}
        outputs: dict[FeatureSource, set[str]] = defaultdict(set)
        for metric, key in keys.items():
            outputs[metric.source].add(metric.output)
            if key not in accumulators:
                width = self._widths[metric.source, metric.output]
                accumulators[key] = metric.new_accumulator(counts[metric], width, device, is_real)
        num_images = max(counts.values())
        local_images = sum(map(len, local_batches(num_images, batch_size)))
        batches = images.batches(num_images, batch_size, device)
        with progress_bar(images.name, local_images) as advance, deterministic_float32(), closing(batches):
            for batch in batches:
                for source, wanted in outputs.items():
                    values = source.extract(self._extractors[source.config], batch.images, wanted)
                    for (used_source, output, count, _), accumulator in accumulators.items():
                        if used_source == source:
                            used = int((batch.index < count).sum())  # the numbers of a batch ascend
                            accumulator.update(values[output][:used], batch.index[:used], batch.label[:used])
                advance(len(batch.index))
                on_batch()
        for accumulator in accumulators.values():
            accumulator.finish()
        return {metric: accumulators[key] for metric, key in keys.items()}
