"""Scores of generated images: functions of arrays and tensors, and :class:`Evaluator`, any number of metrics in one pass."""

from mmsagan.evaluation.evaluator import Evaluator
from mmsagan.evaluation.extractors import (
    DigitsExtractor,
    FashionExtractor,
    FeatureExtractor,
    PyTorchFIDInception,
    StyleGANInception,
)
from mmsagan.evaluation.images import GeneratedImages, RealImages, SampleInputs, open_images
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.fid import FIDInfinity, FrechetInceptionDistance, IntraFID, SpatialFID, frechet_distance
from mmsagan.evaluation.metrics.inception_score import InceptionScore, inception_score
from mmsagan.evaluation.metrics.kid import KernelInceptionDistance, kernel_distance
from mmsagan.evaluation.metrics.precision_recall import AuthPct, PrecisionRecall, authenticity, precision_recall
from mmsagan.evaluation.moments import Moments, Statistics, load_statistics, save_statistics
