"""Evaluation: IS and FID in one pass over samples, against a pass for each and a square root of a matrix."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from mmsagan.analysis.benchmarks.sides import Setup, build_sides, default_batch_size
from mmsagan.analysis.measuring import Action
from mmsagan.analysis.workloads import Workload
from mmsagan.errors import ConfigError
from mmsagan.evaluation import (
    Evaluator,
    FeatureMetric,
    FrechetInceptionDistance,
    InceptionScore,
    Moments,
    Statistics,
    save_statistics,
)
from mmsagan.evaluation.extractors import extractor_config
from mmsagan.evaluation.inception_v3 import InceptionV3
from mmsagan.models import ConditionalGAN

# Features of the extractors that need no download, by inception_style.
EXTRACTORS = dict(digits=64, fashion=64, pytorch=2048)
# Enough samples for any of them.
NUM_SAMPLES = 10000


class SquareRootFID(FrechetInceptionDistance):
    """FID by the square root of a matrix, as scipy computes it and the published codes do."""

    def compute(self, fake: Moments) -> dict[str, float]:
        mean, cov = (values.cpu().numpy() for values in (fake.mean, fake.cov))
        real_mean, real_cov = (np.asarray(values) for values in (self.statistics.mean, self.statistics.cov))
        root = _scipy_sqrtm()(cov @ real_cov).real
        distance = ((mean - real_mean) ** 2).sum() + np.trace(cov + real_cov - 2 * root)
        return dict(fid=float(distance))


def _scipy_sqrtm():
    try:
        from scipy.linalg import sqrtm
    except ImportError as error:
        raise ConfigError("evaluation's reference needs scipy: pip install scipy; or measure with --against none") from error
    return sqrtm


def evaluation_workload(
    cfg: Config, name: str, style: str, num_samples: int | None, batch_size: int | None, setup: Setup
) -> Workload:
    """IS and FID of a generator's samples: sampling, extracting, and the numbers at the end; float32, as evaluations are.

    The reference makes and extracts the samples once for IS and once for FID, with plain layers, and takes FID's trace from
    :class:`SquareRootFID`. Building the extractors is not part of it. Real statistics are random, and so are the weights of
    Inception, which takes as long with them.

    Args:
        cfg: The experiment; of it are used ``model`` and the batch size.
        name: The config's name.
        style: Which extractor, a name from :data:`EXTRACTORS`.
        num_samples: Samples that are scored; None: :data:`NUM_SAMPLES`.
        batch_size: Images at a time; None: see :func:`~mmsagan.analysis.benchmarks.sides.default_batch_size`.
        setup: What all measurements have in common.

    Raises:
        ConfigError: The config describes no GAN that can be built, there are too few samples for FID, or there is no scipy.
    """
    sides = build_sides(cfg.model, setup)
    batch_size = batch_size or default_batch_size(cfg, setup.device)
    if setup.against_reference:
        _scipy_sqrtm()
    num_samples = num_samples or NUM_SAMPLES
    check_num_samples(num_samples, style)
    with tempfile.TemporaryDirectory() as folder:
        common = _metric_arguments(style, num_samples, Path(folder))
        of_fid = dict(common, inception_pkl=str(_random_statistics(style, Path(folder))))
        together = _passes([[_score(common), FrechetInceptionDistance(**of_fid)]], sides.fast, batch_size)
        apart = None
        if sides.reference is not None:
            apart = _passes([[_score(common)], [SquareRootFID(**of_fid)]], sides.reference, batch_size)
        _warm_up([gan for gan in (sides.fast, sides.reference) if gan is not None], common, batch_size)
    return Workload(
        what='eval', config=name, precision='fp32', fast=together, images=num_samples, reference=apart, min_rounds=1
    )


def check_num_samples(num_samples: int, style: str) -> None:
    """Raises a ConfigError if there are too few samples for the covariance of an extractor's features."""
    width = EXTRACTORS[style]
    if num_samples <= width:
        raise ConfigError(f'--num-samples {num_samples} is too few for FID by {width} features; take at least {width + 1}')


def _metric_arguments(style: str, num_samples: int, folder: Path) -> dict:
    weights = None
    if style == 'pytorch':
        weights = folder / 'inception.pth'
        torch.save(InceptionV3().state_dict(), weights)
    return dict(fake_nums=num_samples, extractor=extractor_config(style, weights and str(weights)))


def _score(arguments: dict) -> InceptionScore:
    """The metric, on images as they are, so that it shares an extraction with FID."""
    return InceptionScore(resize=False, **arguments)


def _random_statistics(style: str, folder: Path) -> Path:
    """A file with mean and covariance of random features."""
    width = EXTRACTORS[style]
    features = np.random.default_rng(0).standard_normal((2 * width, width))
    path = folder / 'real.npz'
    save_statistics(Statistics(features.mean(0), np.cov(features, rowvar=False), size=2 * width), path)
    return path


def _passes(groups: Sequence[Sequence[FeatureMetric]], gan: ConditionalGAN, batch_size: int) -> Action:
    """The action of one pass over samples for each group of metrics; gives the results by name."""
    evaluators = [Evaluator(list(metrics)) for metrics in groups]
    for evaluator in evaluators:
        evaluator.prepare(gan.device, batch_size, model=gan)

    def evaluate() -> dict:
        results = {}
        for evaluator in evaluators:
            results.update(evaluator.evaluate_model(gan, None, batch_size))
        return results

    return evaluate


def _warm_up(gans: Sequence[ConditionalGAN], common: dict, batch_size: int) -> None:
    """Makes and extracts a batch: a whole pass would take as long as what is measured. And takes a square root."""
    for gan in gans:
        Evaluator([_score(dict(common, fake_nums=batch_size, splits=1))]).evaluate_model(gan, None, batch_size)
    if len(gans) > 1:
        _scipy_sqrtm()(np.eye(2))
