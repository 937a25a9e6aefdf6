"""Scores of generated images, with and without a runner.

The functions work on arrays and tensors; :class:`Evaluator` computes any number of registered metrics in one pass.

Example:
    >>> from mmsagan.evaluation import inception_score
    >>> mean, std = inception_score(torch.eye(10), splits=1)
"""

from mmsagan.evaluation.evaluator import Evaluator
from mmsagan.evaluation.extractors import (
    DigitsExtractor,
    FashionExtractor,
    FeatureExtractor,
    PyTorchFIDInception,
    StyleGANInception,
)
from mmsagan.evaluation.images import FlatImageFolder, GeneratedImages, RealImages, SampleInputs
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.fid import FrechetInceptionDistance, IntraFID, frechet_distance
from mmsagan.evaluation.metrics.inception_score import InceptionScore, inception_score
from mmsagan.evaluation.metrics.kid import KernelInceptionDistance, kernel_distance
from mmsagan.evaluation.metrics.precision_recall import PrecisionRecall, precision_recall
from mmsagan.evaluation.moments import Moments, Statistics, load_statistics, save_statistics

__all__ = [
    'DigitsExtractor',
    'FashionExtractor',
    'Evaluator',
    'FeatureExtractor',
    'FeatureMetric',
    'FlatImageFolder',
    'FrechetInceptionDistance',
    'GeneratedImages',
    'InceptionScore',
    'IntraFID',
    'KernelInceptionDistance',
    'Moments',
    'PrecisionRecall',
    'PyTorchFIDInception',
    'RealImages',
    'SampleInputs',
    'Statistics',
    'StyleGANInception',
    'frechet_distance',
    'inception_score',
    'kernel_distance',
    'load_statistics',
    'precision_recall',
    'save_statistics',
]
