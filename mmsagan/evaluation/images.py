"""Where evaluated images come from: a generator, a data set or a folder. Image ``i`` is the same on any number of processes."""

import functools
import hashlib
import io
import logging
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Resize
from mmengine.dist import all_gather_object, get_dist_info
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from numpy.random import MT19937, RandomState, SeedSequence
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from mmsagan.datasets import CenterCropLongEdge, ClassImageDataset, LoadImageFromFile, PackInputs, UnreadableImageError
from mmsagan.datasets.archives import read_member
from mmsagan.datasets.image_folder import IMAGE_SUFFIXES, find_images
from mmsagan.datasets.mnist import NpzImages
from mmsagan.datasets.samplers import SeededDataset
from mmsagan.datasets.workers import init_loader_process, read_batches
from mmsagan.errors import ConfigError, DataError
from mmsagan.models import to_uint8
from mmsagan.registry import DATASETS
from mmsagan.utils.random_states import fork_rng

# Samples whose noise and labels share a random state: a state for each sample would take longer to make than its numbers.
_BLOCK_SIZE = 64
_MAX_COMPARED = 1000  # images by which sets are told apart
Callback = Callable[[], None]


@dataclass(frozen=True)
class ImageBatch:
    """Images (N, 3, H, W) uint8, their numbers (N,) and classes (N,); of samples also the float images before rounding."""

    images: Tensor
    index: Tensor
    label: Tensor
    unrounded: Tensor | None = None


def local_batches(num_images: int, batch_size: int) -> list[range]:
    """This process's batches as ranges of image numbers: every ``world_size``-th batch. Each image is in exactly one."""
    rank, world_size = get_dist_info()
    starts = range(rank * batch_size, num_images, world_size * batch_size)
    return [range(start, min(start + batch_size, num_images)) for start in starts]


@dataclass(frozen=True)
class SampleInputs:
    """Noise and labels of samples; those of sample ``i`` depend on ``i`` and the seed alone, in all versions of numpy."""

    noise_size: int
    num_classes: int = 0  # from which labels are drawn uniformly; 0 for no labels
    seed: int | tuple[int, ...] = 0  # or several numbers that make it up
    truncation: float | None = None  # see truncate; None for none
    class_counts: Tensor | None = None  # samples of each class (num_classes,), in place of random labels; those of 0 come first

    def draw(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Noise and labels of the samples ``start`` to ``stop - 1``, as below; None in place of labels without classes."""
        return self.noise(start, stop), self.labels(start, stop) if self.num_classes else None

    def noise(self, start: int, stop: int) -> Tensor:
        """Standard normal noise (stop - start, noise_size), float32, truncated if asked for."""
        noise = self._draw(start, stop, 0, lambda state: state.standard_normal((_BLOCK_SIZE, self.noise_size))).float()
        return noise if self.truncation is None else truncate(noise, self.truncation)

    def labels(self, start: int, stop: int) -> Tensor:
        """Labels (stop - start,), int64."""
        if self.class_counts is not None:
            return torch.searchsorted(self.class_counts.cumsum(0), torch.arange(start, stop), right=True)
        return self._draw(start, stop, 1, lambda state: state.randint(self.num_classes, size=_BLOCK_SIZE)).long()

    def _draw(self, start: int, stop: int, stream: int, draw_block: Callable[[RandomState], np.ndarray]) -> Tensor:
        seed = self.seed if isinstance(self.seed, tuple) else (self.seed,)
        first = start // _BLOCK_SIZE
        numbers = range(first, max(-(-stop // _BLOCK_SIZE), first + 1))
        # RandomState's stream is frozen: it is the same in all versions of numpy.
        blocks = [draw_block(RandomState(MT19937(SeedSequence((*seed, stream, number))))) for number in numbers]
        return torch.from_numpy(np.concatenate(blocks)[start - first * _BLOCK_SIZE : stop - first * _BLOCK_SIZE])


def truncate(noise: Tensor, truncation: float) -> Tensor:
    """Maps standard normal noise to the normal distribution truncated to ``[-truncation, truncation]``.

    Each component is replaced by the number with the same quantile in the truncated distribution, which is that of BigGAN's
    truncation trick. That draws large components again; here, a sample and its truncated versions resemble each other.
    """
    if not isinstance(truncation, Real) or not truncation > 0:
        raise ConfigError(f'truncation must be greater than 0, got {truncation}')
    # In the lower half, where probabilities are small numbers and not differences from 1: exact for large limits, too.
    magnitude = noise.double().abs()
    below = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64))
    probability = below + (1 - 2 * below) * torch.special.ndtr(-magnitude)
    truncated = -torch.special.ndtri(probability)
    # Truncation never enlarges a component; beyond 38 standard deviations, probabilities are 0 and their quantiles infinite.
    truncated = truncated.minimum(magnitude).clamp(0, truncation)
    return truncated.copysign(noise.double()).to(noise.dtype)


@contextmanager
def deterministic_float32() -> Iterator[None]:
    """Context in which GPUs compute in full float32, by algorithms that do not depend on the batch size.

    TF32, and algorithms that cuDNN chooses by trial, would change pixels, and so scores, from one batch size to another.
    """
    matmul = torch.backends.cuda.matmul
    allowed, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = allowed


def use_batch_statistics(generator: nn.Module, momentum: float | None = 0.0) -> nn.Module:
    """Sets evaluation mode, but for the batch norms: they use each batch's own statistics. The generator is changed."""
    generator = revert_sync_batchnorm(generator).eval()
    for module in generator.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
            module.train()
    return generator


@torch.no_grad()
@deterministic_float32()
def apply_standing_statistics(generator: nn.Module, inputs: SampleInputs, steps: int, batch_size: int) -> nn.Module:
    """Replaces the batch norms' running statistics by their mean over ``steps`` batches, as BigGAN and StudioGAN do.

    The generator is changed, and returned in evaluation mode. The inputs should not be those of the evaluated samples.
    """
    generator = use_batch_statistics(generator, momentum=None)  # the plain mean over all batches
    for module in generator.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
    device = next(generator.parameters()).device
    for step in range(steps):
        noise, label = inputs.draw(step * batch_size, (step + 1) * batch_size)
        generator(noise.to(device), label=None if label is None else label.to(device))
    return generator.eval()


@dataclass
class GeneratedImages:
    """A generator's samples; sample ``i`` depends on ``i`` and the seed alone. ``name`` is for messages.

    The generator is in evaluation mode; ``generator(noise, label=label)`` returns images in [-1, 1].
    """

    generator: nn.Module
    inputs: SampleInputs
    num_images: int
    name: str = 'samples'
    on_batch: Callback = lambda: None  # called after each batch

    def __len__(self) -> int:
        return self.num_images

    @torch.no_grad()
    def batches(self, num_images: int, batch_size: int, device: torch.device) -> Generator[ImageBatch, None, None]:
        for numbers in local_batches(num_images, batch_size):
            noise, label = self.inputs.draw(numbers.start, numbers.stop)
            images = self.generator(noise.to(device), label=None if label is None else label.to(device))
            if not images.isfinite().all():
                raise DataError(f'the {self.name} contain NaN or Inf: the generator has diverged')
            if label is None:
                label = torch.zeros(len(noise), dtype=torch.long)
            index, unrounded = torch.arange(numbers.start, numbers.stop), (images.float() + 1) * 127.5
            yield ImageBatch(to_uint8(images), index, label, unrounded)
            self.on_batch()


@dataclass(eq=False)
class RealImages:
    """The images of a data set in a random order, so that the first N are a random choice.

    The data set is built on first use; with statistics from a file it is not needed. Images that cannot be read are left out,
    up to the data set's ``max_unreadable_share``.
    """

    source: Dataset | dict  # of dicts with inputs (3, H, W) uint8, all of one size, and labels; or the config of such a one
    num_workers: int = 0  # processes that load images
    seed: int | None = 0  # of the order; None keeps that of the data set

    @property
    def config(self) -> dict:
        """Config of the data set; empty if it was given as an object."""
        return self.source if isinstance(self.source, dict) else {}

    @functools.cached_property
    def dataset(self) -> Any:
        try:
            dataset = DATASETS.build(self.source) if isinstance(self.source, dict) else self.source
        except (KeyError, TypeError) as error:  # without a type, or with an unknown argument
            raise ConfigError(f'the data set {dict(self.config)} cannot be built: {error}') from error
        if isinstance(dataset, ClassImageDataset):
            dataset.keeps_unreadable = True  # another image must not take the place of an unreadable one
        return dataset

    @property
    def name(self) -> str:
        """Name for messages."""
        return getattr(self.dataset, 'name', type(self.dataset).__name__)

    def __len__(self) -> int:
        return len(self.dataset)

    @functools.cached_property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of the first image that can be read."""
        with fork_rng(0):
            for sample in (self.dataset[index] for index in range(len(self))):
                if not isinstance(sample, UnreadableImageError):
                    return tuple(sample['inputs'].shape[-2:])
        raise DataError(f'{self.name}: no image can be read')

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What tells these images from others, as plain values; empty if the data is not here.

        At most 1 000 images, evenly spread, are compared: ``names`` is a hash of their files' paths below the folder that they
        share, and ``contents`` one of the sizes and both ends of the files, or of the pixels if they are not files.
        """
        try:
            dataset = self.dataset
            found: dict[str, Any] = dict(images=len(self), image_size=list(self.image_size))
        except (DataError, OSError):
            return {}
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
        texts = [f'{type(each).__name__} {getattr(each, "__dict__", "")}' for each in transforms]
        found['transforms'] = [re.sub(' at 0x[0-9a-f]+', '', text) for text in texts]
        numbers = np.unique(np.linspace(0, len(self) - 1, min(len(self), _MAX_COMPARED)).astype(int)).tolist()
        contents = hashlib.sha256()
        if hasattr(dataset, 'get_data_info') and 'img_path' in dataset.get_data_info(0):
            paths = sorted(os.path.abspath(dataset.get_data_info(index)['img_path']) for index in numbers)
            names = [os.path.relpath(path, os.path.commonpath(paths)) for path in paths]
            found['names'] = hashlib.sha256(os.fsencode('\n'.join(names).replace(os.sep, '/'))).hexdigest()[:16]
            with ThreadPoolExecutor(8) as pool:
                for part in pool.map(_read_ends, paths):
                    contents.update(part)
        else:
            with fork_rng(0):
                for sample in map(dataset.__getitem__, numbers):
                    if not isinstance(sample, UnreadableImageError):
                        contents.update(sample['inputs'].numpy().tobytes())
        return found | dict(contents=contents.hexdigest()[:16])

    def batches(self, num_images: int, batch_size: int, device: torch.device) -> Generator[ImageBatch, None, None]:
        ranges = local_batches(num_images, batch_size)
        order = np.arange(len(self)) if self.seed is None else np.random.RandomState(self.seed).permutation(len(self))
        workers = min(self.num_workers, len(ranges))
        loader = DataLoader(
            SeededDataset(self.dataset, workers),
            batch_sampler=[order[numbers.start : numbers.stop].tolist() for numbers in ranges],
            num_workers=workers,
            worker_init_fn=init_loader_process,
            collate_fn=_collate,
            # Its own generator: starting the workers must not draw from the training's random numbers.
            generator=torch.Generator().manual_seed(0),
        )
        skipped: list[UnreadableImageError] = []
        with closing(read_batches(loader, 'num_workers of the evaluation')) as batches:
            for numbers, (images, label, kept, errors) in zip(ranges, batches):
                skipped += errors
                for error in errors:
                    self.dataset.report_unreadable(error)
                if kept:
                    yield ImageBatch(images.to(device), numbers.start + torch.tensor(kept), label)
        skipped = sum(all_gather_object(skipped), [])
        for error in skipped:
            self.dataset.report_unreadable(error)  # those of the other processes count, too
        if len(skipped) == num_images:
            raise DataError(f'{self.name}: no image can be read')
        if skipped:
            message = f'{self.name}: {len(skipped)} of {num_images} images cannot be read and are left out'
            print_log(message, logger='current', level=logging.WARNING)


def _read_ends(path: str, num_bytes: int = 1 << 15) -> bytes:
    """The size and both ends of a file; nothing of one that cannot be read, which is reported elsewhere."""
    with suppress(Exception):
        content = read_member(path)
        if content is None and not os.path.isfile(path):  # a pipe would never end
            return b''
        with open(path, 'rb') if content is None else io.BytesIO(content) as file:
            start, size = file.read(num_bytes), file.seek(0, os.SEEK_END)
            file.seek(max(len(start), size - num_bytes))
            return b'%d ' % size + start + file.read()
    return b''


def _collate(samples: Sequence) -> tuple[Tensor, Tensor, list[int], list[UnreadableImageError]]:
    """Stacks the images and labels of a batch, and returns their places in it, and the errors of the others."""
    errors = [sample for sample in samples if isinstance(sample, UnreadableImageError)]
    kept = {place: sample for place, sample in enumerate(samples) if not isinstance(sample, UnreadableImageError)}
    images = [sample['inputs'] for sample in kept.values()]
    sizes = sorted({f'{image.shape[2]}x{image.shape[1]}' for image in images})
    if len(sizes) > 1:
        raise DataError(f'images of mixed sizes: {sizes[0]} and {sizes[1]}; resize them with --size or in the pipeline')
    stacked = torch.stack(images) if images else torch.empty(0)
    return stacked, torch.tensor([int(sample['labels']) for sample in kept.values()]), [*kept], errors


class FlatImageFolder(ClassImageDataset):
    """All images below a folder, or in a zip or tar file. Folders below the one that all of them share are their classes."""

    def load_data_list(self) -> list[dict]:
        paths, _, left_out = find_images(self.data_root)
        if not paths:
            raise DataError(f'{self.data_root} is no folder, .zip, .tar, .tar.gz or .npz file of images {IMAGE_SUFFIXES}')
        self.set_left_out(left_out)
        depth = len(os.path.commonprefix([path.split(os.sep)[:-1] for path in (paths[0], paths[-1])]))  # they are sorted
        names = [''.join(path.split(os.sep)[depth:-1][:1]) for path in paths]
        classes = ['all'] if '' in names else sorted({*names})
        labels = {name: label for label, name in enumerate(classes)}
        self.set_classes(classes, [*labels.values()])
        return [dict(img_path=path, gt_label=labels.get(name, 0)) for path, name in zip(paths, names)]


def open_images(source: str | Path, size: int | None = None) -> ClassImageDataset:
    """A data set of the images in a folder and its subfolders, or in a ``.zip``, ``.tar``, ``.tar.gz`` or ``.npz`` file.

    The centre square of each image is resized to ``size`` pixels (bicubic); None keeps their size, which must be the same.
    """
    resize = [CenterCropLongEdge(), Resize((size, size), interpolation='bicubic', backend='pillow')] if size else []
    pipeline = [*resize, PackInputs()]
    if str(source).endswith('.npz') and Path(source).is_file():
        return NpzImages(data_root=str(source), pipeline=pipeline, allow_empty_classes=True, test_mode=True)
    return FlatImageFolder(str(source), pipeline=[LoadImageFromFile(), *pipeline], test_mode=True)


ImageSource = GeneratedImages | RealImages
