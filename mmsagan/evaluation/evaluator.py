"""One pass for any number of metrics: each sample is generated once, and goes once through each extractor that wants it."""

import copy
import json
import statistics
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.evaluator import Evaluator as MMEngineEvaluator
from torch import nn

from mmsagan.errors import ConfigError, check_integers
from mmsagan.evaluation.extractors import FeatureExtractor, FeatureSource
from mmsagan.evaluation.images import (
    Callback,
    GeneratedImages,
    ImageSource,
    RealImages,
    SampleInputs,
    apply_standing_statistics,
    deterministic_float32,
    local_batches,
    use_batch_statistics,
)
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.fid import FrechetInceptionDistance
from mmsagan.evaluation.moments import float64_device
from mmsagan.models import ConditionalGAN
from mmsagan.models.gan import unwrap
from mmsagan.models.layers.spectral_norm import fold_spectral_norm
from mmsagan.registry import EVALUATOR, EXTRACTORS, METRICS
from mmsagan.utils.processes import from_main_process
from mmsagan.utils.progress import progress_bar

HELD_OUT, SEEDS_STD = 'held_out/', 'seeds_std/'


@EVALUATOR.register_module()
class Evaluator(MMEngineEvaluator):
    """Evaluates a GAN, or images from anywhere, with any number of metrics.

    Results do not depend on batch size or number of processes: each sample has its own noise and label, and sums are combined.

    Args:
        metrics: Configs of metrics, see :class:`~mmsagan.evaluation.FeatureMetric`.
        seed: Seed of noise, labels and the choice of real images.
        num_seeds: Number of sets of samples. Of several, results are means, with ``seeds_std/<prefix>/<result>`` beside them.
        truncation: Largest magnitude of a noise component, see :func:`~mmsagan.evaluation.images.truncate`; None for no
            limit. Of several in a list, results are called ``truncation_<value>/<prefix>/<result>``.
        batch_statistics: Whether G's batch norms use each batch's statistics, as StudioGAN for CIFAR-10; its size matters then.
        standing_steps, standing_batch_size: Number and size of batches that renew G's batch-norm statistics before sampling.
        inception_pkl: File of real statistics for each FID that has none of its own, see
            :class:`~mmsagan.evaluation.FrechetInceptionDistance`; an extractor other than StyleGAN's adds its suffix.
        held_out: Config of real images that are scored like samples: ``held_out/<prefix>/<result>``, but not by IntraFID.
    """

    def __init__(
        self,
        metrics: dict | Sequence[dict],
        seed: int = 0,
        num_seeds: int = 1,
        truncation: float | Sequence[float | None] | None = None,
        batch_statistics: bool = False,
        standing_steps: int = 0,
        standing_batch_size: int = 64,
        inception_pkl: str | None = None,
        held_out: dict | None = None,
    ):
        metrics = [metrics] if isinstance(metrics, dict) else metrics
        super().__init__([METRICS.build(metric) if isinstance(metric, dict) else metric for metric in metrics])
        if not self.metrics:
            raise ConfigError('evaluator: there are no metrics')
        check_integers(0, seed=seed, standing_steps=standing_steps)
        check_integers(1, num_seeds=num_seeds, standing_batch_size=standing_batch_size)
        if batch_statistics and standing_steps:
            raise ConfigError('evaluator: set batch_statistics or standing_steps, not both')
        prefixes = [metric.prefix for metric in self.metrics]
        for metric in self.metrics:
            if prefixes.count(metric.prefix) > 1:
                raise ConfigError(f'evaluator: two metrics are named {metric.prefix!r}; give them different values of prefix')
            if isinstance(metric, FrechetInceptionDistance) and inception_pkl and not (metric.inception_pkl or metric.dataset):
                metric.use_shared_pkl(inception_pkl)
        self.seed = seed
        self.num_seeds = num_seeds
        values = truncation if isinstance(truncation, Sequence) else [truncation]
        # By prefix of the results' names.
        self.truncations = {f'truncation_{value}/' if values is truncation else '': value for value in values}
        if not self.truncations or any(value is not None and not value > 0 for value in self.truncations.values()):
            raise ConfigError(f'evaluator: truncation must be a number greater than 0 or several, got {truncation}')
        self.batch_statistics = batch_statistics
        self.standing_steps = standing_steps
        self.standing_batch_size = standing_batch_size
        self.held_out = None if held_out is None else RealImages(held_out, seed=seed)
        self._held_out_results: dict = {}
        self._extractors: dict[str, FeatureExtractor] = {}
        self._widths: dict[tuple[FeatureSource, str], int] = {}
        self._is_prepared = False

    @property
    def result_names(self) -> list[str]:
        """Names of all results of a generator, without standard deviations over seeds."""
        names = [f'{metric.prefix}/{name}' for metric in self.metrics for name in metric.results]
        return [truncation + name for truncation in self.truncations for name in names]

    @property
    def best_rules(self) -> dict[str, str]:
        """The results by which best checkpoints are kept, IS and FID, and whether 'greater' or 'less' is better."""
        first = next(iter(self.truncations))
        return {f'{first}{metric.prefix}/{name}': rule for metric in self.metrics for name, rule in metric.best.items()}

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
        # The real images of each metric that extracts them, and how many of them.
        sources: dict[FeatureMetric, RealImages] = {}
        counts: dict[FeatureMetric, int] = {}
        own: dict[str, RealImages] = {}

        def check_size(images: RealImages) -> None:
            if size and images.image_size != size:
                (height, width), (real_height, real_width) = size, images.image_size
                sizes = f'{width}x{height} pixels, those of {images.name} {real_width}x{real_height}'
                raise ConfigError(f'the images to be scored have {sizes}: use --size, or Resize in the pipeline')

        def check(metric: FeatureMetric, width: int) -> None:
            if model is not None:
                model.get_generator(metric.sample_model)
            metric.image_size = size
            images, dataset = real_images, metric.dataset
            if dataset is not None:  # its own images, which take what they do not state from the data loader's
                shared, workers = (real_images.config, real_images.num_workers) if real_images else ({}, 0)
                stated = shared if dataset.get('type', shared.get('type')) == shared.get('type') else {}
                images = own.setdefault(repr(dataset), RealImages({**stated, **dataset}, workers, self.seed))
            metric.check(width, inputs, images)
            if not metric.needs_real or metric.real is not None:
                return
            if images is None:
                remedy = "a folder as --real, the dataset of the evaluation's data loader or, for FID, a file of statistics"
                raise ConfigError(f'{metric.prefix} needs real images: give {remedy}')
            sources[metric], counts[metric] = images, len(images) if metric.real_nums < 0 else metric.real_nums
            if not metric.min_real <= counts[metric] <= len(images):
                available = f'{images.name} has {len(images)} images, and it needs at least {metric.min_real}'
                raise ConfigError(f'{metric.prefix}: real_nums={metric.real_nums}, but {available}')
            check_size(images)

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
        for images in dict.fromkeys(sources.values()):
            wanted = {metric: count for metric, count in counts.items() if sources[metric] is images}
            for metric, accumulator in self._accumulate(wanted, images, batch_size, device, is_real=True).items():
                metric.take_real(accumulator, images)
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
        results: dict[str, Any] = {}
        deviations: dict[str, float] = {}
        for prefix, truncation in self.truncations.items():
            seeds = range(self.seed, self.seed + self.num_seeds)
            scores = [self._score_samples(model, seed, truncation, batch_size, on_batch) for seed in seeds]
            for name in (f'{metric.prefix}/{result}' for metric in self.metrics for result in metric.results):
                values = [score[name] for score in scores]
                if isinstance(values[0], dict):
                    results[prefix + name] = {key: statistics.fmean(value[key] for value in values) for key in values[0]}
                else:
                    results[prefix + name] = statistics.fmean(values)
                    deviations[SEEDS_STD + prefix + name] = statistics.stdev(values) if len(values) > 1 else 0.0
        return {**results, **(deviations if self.num_seeds > 1 else {}), **self._held_out_results}

    def _score_samples(
        self, model: ConditionalGAN, seed: int, truncation: float | None, batch_size: int, on_batch: Callback
    ) -> dict:
        results = {}
        for network, metrics in self._sample_sets(model):
            # Batch statistics may differ between processes: those of the first are evaluated, as they are what is saved.
            generator = copy.deepcopy(network).eval()
            for value in generator.state_dict().values():
                broadcast(value)
            sizes = model.noise_size, model.num_classes
            if self.standing_steps:
                inputs = SampleInputs(*sizes, (seed, 1), truncation)
                generator = apply_standing_statistics(generator, inputs, self.standing_steps, self.standing_batch_size)
            if self.batch_statistics:
                generator = use_batch_statistics(generator)
            name = f'samples ({"ema" if network is model.generator_ema else "orig"})'
            inputs = SampleInputs(*sizes, (seed, 0), truncation, metrics[0].class_counts)
            num_samples = max(metric.fake_nums for metric in metrics)
            images = GeneratedImages(fold_spectral_norm(generator), inputs, num_samples, name, on_batch)
            results.update(self.score(images, batch_size, model.device, metrics))
        return results

    def _sample_sets(self, model: ConditionalGAN) -> list[tuple[nn.Module, list[FeatureMetric]]]:
        """Returns the metrics that can share their samples, which are of one network with one choice of classes."""
        sets: dict[tuple, tuple[nn.Module, list[FeatureMetric]]] = {}
        for metric in self.metrics:
            network, counts = model.get_generator(metric.sample_model), metric.class_counts
            key = network, None if counts is None else tuple(counts.tolist())
            sets.setdefault(key, (network, []))[1].append(metric)
        return list(sets.values())

    def num_batches(self, model: ConditionalGAN, batch_size: int) -> int:
        """Number of batches of samples that this process generates in an evaluation."""
        sizes = [max(metric.fake_nums for metric in metrics) for _, metrics in self._sample_sets(model)]
        batches = sum(len(local_batches(size, batch_size)) for size in sizes)
        return batches * self.num_seeds * len(self.truncations)

    def score(
        self, images: ImageSource, batch_size: int, device: torch.device, metrics: Sequence[FeatureMetric] | None = None
    ) -> dict:
        """Scores images from any source, at most ``fake_nums`` of them per metric; by default with all metrics.

        Call :meth:`prepare` first, with the same device.
        """
        counts = {metric: min(metric.fake_nums, len(images)) for metric in (self.metrics if metrics is None else metrics)}
        results = {}
        for metric, accumulator in self._accumulate(counts, images, batch_size, device).items():
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
        is_real: bool = False,
    ) -> dict[FeatureMetric, Any]:
        """Passes over the images once and returns each metric's accumulator of its first ``counts[metric]`` images.

        Metrics with the same source, output, kind of accumulator and count share an accumulator.
        """
        if not counts:
            return {}
        keys = {metric: (metric.source, metric.output, count, metric.accumulator_key) for metric, count in counts.items()}
        accumulators: dict[tuple, Any] = {}
        for metric, key in keys.items():
            if key not in accumulators:
                width = self._widths[metric.source, metric.output]
                accumulators[key] = metric.new_accumulator(counts[metric], width, float64_device(device), is_real)
        num_images = max(counts.values())
        local_images = sum(map(len, local_batches(num_images, batch_size)))
        batches = images.batches(num_images, batch_size, device)
        with progress_bar(images.name, local_images) as advance, deterministic_float32(), closing(batches):
            for batch in batches:
                for source in {source: None for source, *_ in accumulators}:
                    # The numbers of a batch ascend. A source gets only the images that its metrics want.
                    used = {key: int((batch.index < key[2]).sum()) for key in accumulators if key[0] == source}
                    used = {key: number for key, number in used.items() if number}
                    if used:
                        pixels = batch.images if source.quantize or batch.unrounded is None else batch.unrounded
                        outputs = {output for _, output, *_ in used}
                        values = source.extract(self._extractors[source.config], pixels[: max(used.values())], outputs)
                    for key, number in used.items():
                        accumulators[key].update(values[key[1]][:number], batch.index[:number], batch.label[:number])
                advance(len(batch.index))
        for accumulator in accumulators.values():
            accumulator.finish()
        return {metric: accumulators[key] for metric, key in keys.items()}
