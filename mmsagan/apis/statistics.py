"""Statistics and scores of images from anywhere, without a model or a runner."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.device import get_device

from mmsagan.errors import ConfigError
from mmsagan.evaluation import Evaluator, FlatImageFolder, RealImages
from mmsagan.evaluation.moments import Statistics

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
    device = torch.device(get_device())
    evaluator.prepare(device, lambda: images, image_size=images.image_size)
    evaluator.extract_real(batch_size, device)
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
    statistics_file = real is not None and Path(real).suffix in ('.pkl', '.npz')
    wanting = [name for name in metrics if name != 'is']
    if wanting and real is None:
        raise ConfigError(f'{", ".join(wanting)}: what are the images to be compared with? Give --real, a folder or a file')
    if statistics_file and set(wanting) - {'fid'}:
        raise ConfigError(
            f'{", ".join(sorted(set(wanting) - {"fid"}))}: needs the real images themselves, and {real} holds '
            'their mean and covariance only'
        )
    if statistics_file and not Path(real).is_file():
        raise ConfigError(f'--real {real} does not exist')
    evaluator = Evaluator([_metric_config(name, count, str(real) if statistics_file else None, inception) for name in metrics])
    device = torch.device(get_device())
    evaluator.prepare(device, lambda: RealImages(FlatImageFolder(real, size), num_workers), image_size=images.image_size)
    evaluator.extract_real(batch_size, device)
    return evaluator.score(images, batch_size, device)


def _metric_config(name: str, count: int, statistics: str | None, inception: dict | None) -> dict:
    config = dict(type=METRIC_TYPES[name], fake_nums=count, **(inception or {}))
    if name == 'fid':
        config.update(inception_pkl=statistics)
    if name == 'pr':
        config.update(real_nums=-1)
    if name == 'is':
        config.update(splits=min(10, count))
    return config
