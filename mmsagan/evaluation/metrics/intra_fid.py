"""Intra-class FID (Miyato & Koyama 2018; section 5 of the paper)."""

import logging
from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.logging import print_log

from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.accumulators import ClassFeatures
from mmsagan.evaluation.images import RealImages
from mmsagan.evaluation.metrics.base import FeatureMetric
from mmsagan.evaluation.metrics.fid import frechet_distance
from mmsagan.evaluation.moments import Moments
from mmsagan.registry import METRICS
from mmsagan.utils.progress import progress_bar


@METRICS.register_module()
class IntraFID(FeatureMetric[ClassFeatures]):
    """FID within each class: the mean over classes ``intra_fid``, and ``per_class``, a dict by class name.

    The samples are the other metrics' samples, sorted by class; each class needs more of them than there are features. Real
    classes may have fewer (ImageNet's have 1 300 at most), as in the paper, which makes their covariances singular; the log
    says so.

    Keeps all features of this process's samples and real images, 8 KiB each with Inception's.

    Args:
        fake_nums: Number of samples over all classes.
        **kwargs: See :class:`~mmsagan.evaluation.metrics.base.FeatureMetric`.

    Raises:
        ConfigError: A class has too few samples, or the model has no classes.
        DataError: A class has no two real images.
    """

    short_name = 'IntraFID'
    results = ('intra_fid', 'per_class')
    collective = True
    accumulator_key = (ClassFeatures,)

    def __init__(self, fake_nums: int = 50000, **kwargs):
        super().__init__(fake_nums, **kwargs)
        self.classes: Sequence[str] = ()

    def check(self, width: int, class_counts: list[int] | None, real_images: RealImages | None) -> None:
        if not class_counts:
            raise ConfigError(f'{self.prefix}: needs a model with classes')
        if min(class_counts) <= width:
            needed = -(-self.fake_nums * (width + 1) // max(min(class_counts), 1))
            raise ConfigError(
                f'{self.prefix}: of fake_nums={self.fake_nums} samples, class {class_counts.index(min(class_counts))} gets '
                f'{min(class_counts)}, too few for the covariance of {width} features; take about {max(needed, 1)}'
            )
        if real_images is not None and len(real_images.classes or ()) != len(class_counts):
            raise DataError(
                f'{self.prefix}: the model has {len(class_counts)} classes, the real images of {real_images.name} have '
                f'{len(real_images.classes or ())}'
            )

    def new_accumulator(self, num_samples: int, width: int, device: torch.device) -> ClassFeatures:
        return ClassFeatures(width)

    def take_real(self, accumulator: ClassFeatures, images: RealImages) -> None:
        classes = images.classes or ()
        counts = torch.bincount(accumulator.label, minlength=len(classes))
        all_reduce(counts)
        if counts.min() < 2:
            raise DataError(
                f'{self.prefix}: class {classes[int(counts.argmin())]!r} has {int(counts.min())} real images in {images.name}'
            )
        width = accumulator.features.shape[1]
        small = int((counts <= width).sum())
        if small:
            print_log(
                f'{self.prefix}: {small} of {len(classes)} classes have no more real images than features ({width}), so their '
                'covariances are singular; compare only with values from as many images',
                logger='current',
                level=logging.WARNING,
            )
        self.real, self.classes = accumulator, classes

    def compute(self, fake: ClassFeatures) -> dict:
        rank, world = get_dist_info()
        distances = torch.zeros(len(self.classes), dtype=torch.float64)
        with progress_bar(self.prefix, len(distances)) as advance:
            for first in range(0, len(distances), world):
                # The processes bring as many classes together as they are; then each computes one's distance.
                labels = range(first, min(first + world, len(distances)))
                moments = [[self._moments(side, label) for side in (fake, self.collected_real)] for label in labels]
                if rank < len(labels):
                    ours, theirs = moments[rank]
                    distances[labels[rank]] = frechet_distance(ours.mean, ours.cov, theirs.mean, theirs.cov)
                advance(len(labels))
        all_reduce(distances)
        per_class = dict(zip(map(str, self.classes), distances.tolist()))
        return dict(intra_fid=float(distances.mean()), per_class=per_class)

    @staticmethod
    def _moments(side: ClassFeatures, label: int) -> Moments:
        moments = Moments(side.features.shape[1])
        moments.update(side.features[side.label == label])
        moments.finish()
        return moments
