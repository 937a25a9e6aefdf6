"""Statistics and scores of images from anywhere, without a model or a runner."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.device import get_device

from mmsagan.errors import ConfigError
from mmsagan.evaluation import Evaluator, FlatImageFolder, RealImages
from mmsagan.evaluation.moments import Statistics
from mmsagan.utils.download import URLS

# By the names that the command line uses.
METRIC_TYPES = {
    'fid': 'FrechetInceptionDistance',
    'is': 'InceptionScore',
    'kid': 'KernelInceptionDistance',
    'pr': 'PrecisionRecall',
}


def image_statistics(
    images: RealImages, num_images: int = -1, batch_size: int = 25, inception: dict | None = None
) -> Statistics:
    """Mean and covariance of a set of images' features, as FID takes them.

    Args:
        images: The images.
        num_images: How many of them; -1 for all.
        batch_size: Images at a time.
        inception: Arguments that choose the extractor: ``inception_style``, ``inception_path`` or ``extractor``.

    Raises:
        MMSAGANError: There are too few images, or the extractor is missing.
    """
    evaluator = Evaluator([dict(type='FrechetInceptionDistance', real_nums=num_images, **(inception or {}))])
    evaluator.prepare(_device(), batch_size, images, image_size=images.image_size)
    return evaluator.metrics[0].statistics


def score_images(
    images: RealImages,
    metrics: Sequence[str],
    real: str | Path | None = None,
    num_images: int | None = None,
    batch_size: int = 64,
    size: int | None = None,
    num_workers: int = 0,
    inception: dict | None = None,
) -> dict:
    """Scores images from any source.

    Args:
        images: The images.
        metrics: Of 'fid', 'is', 'kid' and 'pr'.
        real: Folder of real images, or file of their statistics, which only FID can use; IS needs none.
        num_images: How many of the images; None for all.
        batch_size: Images at a time.
        size: What real images are resized to; None takes them as they are.
        num_workers: Processes that load them.
        inception: Arguments that choose the extractor.

    Returns:
        Results by name.

    Raises:
        MMSAGANError: Something that the user can mend.
    """
    count = len(images) if num_images is None else num_images
    if count > len(images):
        raise ConfigError(f'{count} images are asked for, but {images.name} has {len(images)}')
    statistics = real if real is not None and str(real).endswith(('.pkl', '.npz')) else None
    comparing = [name for name in metrics if name != 'is']
    if comparing and real is None:
        raise ConfigError(f'{", ".join(comparing)}: what are the images to be compared with? Give --real, a folder or a file')
    if statistics and set(comparing) - {'fid'}:
        raise ConfigError(
            f'{", ".join(sorted(set(comparing) - {"fid"}))}: needs the real images themselves, and {real} holds their mean and '
            'covariance only'
        )
    if statistics and not str(statistics).startswith(URLS) and not Path(statistics).is_file():
        raise ConfigError(f'--real {real} does not exist')
    evaluator = Evaluator([_metric_config(name, count, statistics, inception) for name in metrics])
    real_images = None if real is None or statistics else RealImages(FlatImageFolder(real, size), num_workers)
    evaluator.prepare(_device(), batch_size, real_images, image_size=images.image_size)
    return evaluator.score(images, batch_size, _device())


def _device() -> torch.device:
    name = get_device()
    return torch.device('cpu' if name == 'mps' else name)  # Apple's GPUs have no float64


def _metric_config(name: str, count: int, statistics: str | Path | None, inception: dict | None) -> dict:
    config = dict(type=METRIC_TYPES[name], fake_nums=count, **(inception or {}))
    if name == 'fid' and statistics:
        config.update(inception_pkl=str(statistics))
    if name == 'pr':
        config.update(real_nums=-1)
    if name == 'is':
        config.update(splits=min(10, count))
    return config
