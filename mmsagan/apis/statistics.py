"""Statistics and scores of images from any source, without a runner."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from mmengine.device import get_device

from mmsagan.apis.sampling import class_folders
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import Evaluator, RealImages, open_images
from mmsagan.evaluation.moments import Statistics, load_statistics
from mmsagan.utils.download import URLS

METRIC_NAMES = {  # types of the metrics by their names on the command line
    **{'fid': 'FID', 'fid-infinity': 'FIDInfinity', 'sfid': 'sFID', 'is': 'IS', 'kid': 'KID'},
    **{'pr': 'PR', 'authpct': 'AuthPct', 'intra-fid': 'IntraFID'},
}


def has_same_classes(names: Sequence[str], known: Sequence[str]) -> bool:
    """Whether names of classes are the known ones in their order, those of tools/sample.py's folders, or their numbers."""
    numbers = [name.lstrip('0') or '0' for name in names]
    return [*names] in ([*known], class_folders(known)) or numbers == [*map(str, range(len(known)))]


def image_statistics(
    images: RealImages,
    num_images: int = -1,
    batch_size: int = 25,
    inception: dict | None = None,
    replaces: Sequence[Path] = (),
) -> Statistics:
    """Computes the mean and covariance of the features of images, for FID.

    ``inception`` are arguments of a metric that choose the extractor, such as ``extractor``. Files in ``replaces``, which will
    be overwritten, must be statistics of the same images and features.
    """
    evaluator = Evaluator(dict(type='FID', real_nums=num_images, **(inception or {})))
    (metric,) = evaluator.metrics
    metric.image_size = images.image_size
    fingerprint = metric.fingerprint(images)
    for path in filter(Path.exists, replaces):
        found = load_statistics(path)
        if found.content != fingerprint:
            difference = found.difference(fingerprint) or f'{found.size} images, chosen in another way or not described'
            raise ConfigError(f'{path} is of {difference}; choose another name, or replace it with --force')
    evaluator.prepare(torch.device(get_device()), batch_size, images, image_size=images.image_size)
    return replace(metric.real, content=fingerprint)


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
    """Scores images from any source; returns the results by name.

    Args:
        metrics: Of :data:`METRIC_NAMES`.
        real: What :func:`~mmsagan.evaluation.open_images` reads, or for FID a file of statistics; ADM's have both. Not for IS.
        size: Size in pixels to which real images are resized; None keeps their size.
        inception: Arguments that choose the extractor, as above.
    """
    count = len(images) if num_images is None else num_images
    if count > len(images):
        raise ConfigError(f'{count} images are asked for, but {images.name} has {len(images)}')
    is_file = str(real).endswith(('.pkl', '.npz'))
    if is_file and not str(real).startswith(URLS) and not Path(str(real)).is_file():
        raise ConfigError(f'--real {real} does not exist')
    options: dict[str, dict[str, Any]] = {'pr': dict(real_nums=-1), 'is': dict(splits=min(10, count))}
    arrays: list[str] = []
    with suppress(OSError, BadZipFile):  # a damaged file is reported when it is read
        arrays = ZipFile(str(real)).namelist() if is_file else []
    if is_file and ('mu.npy' in arrays or 'arr_0.npy' not in arrays):
        number = 0 if str(real).startswith(URLS) else load_statistics(str(real)).size
        options['fid'] = options['fid-infinity'] = dict(inception_pkl=str(real), real_nums=number or -1)
    real_images = None
    if real is not None and (not is_file or 'arr_0.npy' in arrays):
        real_images = RealImages(open_images(str(real), size), num_workers)
        ours, theirs = (getattr(each.dataset, 'metainfo', {}).get('classes') or () for each in (images, real_images))
        if 'intra-fid' in metrics and not (has_same_classes(ours, theirs) and len(theirs) > 1):
            raise DataError(f'intra-fid: the class folders of {images.name} are {ours!r:.99}, those of --real {theirs!r:.99}')
    common = dict(inception or {}, fake_nums=count)
    evaluator = Evaluator([dict(common, type=METRIC_NAMES[name], **options.get(name, {})) for name in metrics])
    device = torch.device(get_device())
    evaluator.prepare(device, batch_size, real_images, image_size=images.image_size)
    return evaluator.score(images, batch_size, device)
