"""The metrics: pure functions, and a registered component around each."""

from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.fid import FrechetInceptionDistance, IntraFID, frechet_distance
from mmsagan.evaluation.metrics.inception_score import InceptionScore, inception_score
from mmsagan.evaluation.metrics.kid import KernelInceptionDistance, kernel_distance
from mmsagan.evaluation.metrics.precision_recall import PrecisionRecall, precision_recall

__all__ = [
    'FeatureMetric',
    'FrechetInceptionDistance',
    'InceptionScore',
    'IntraFID',
    'KernelInceptionDistance',
    'PrecisionRecall',
    'frechet_distance',
    'inception_score',
    'kernel_distance',
    'precision_recall',
]
