"""Where evaluated images come from: a generator, a data set, or a folder. All number their images the same on any machine."""

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mmcv.transforms import BaseTransform, Resize
from mmengine.dist import get_dist_info
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmsagan.datasets import CenterCropLongEdge, LoadImageFromFile, PackInputs, UnreadableImageError
from mmsagan.datasets.decoding import IMAGE_SUFFIXES, size_of
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation.sampling import SampleInputs
from mmsagan.models import to_uint8
from mmsagan.registry import DATASETS


@dataclass(frozen=True)
class ImageBatch:
    """Images (N, 3, H, W) uint8, their numbers (N,) and their classes (N,)."""

    images: Tensor
    index: Tensor
    label: Tensor


class ImageSource(Protocol):
    """Numbered images, which the processes share out among themselves."""

    @property
    def name(self) -> str:
        """For messages."""

    def __len__(self) -> int:
        """Number of images there are."""

    def batches(self, num_images: int, batch_size: int, device: torch.device) -> Iterator[ImageBatch]:
        """This process's batches of the images 0 to ``num_images - 1``."""


def my_ranges(num_images: int, batch_size: int) -> list[range]:
    """This process's batches, as ranges of image numbers: every ``world size``-th one. Together they hold each number once."""
    return [range(start, min(start + batch_size, num_images)) for start in _my_starts(num_images, batch_size)]


def num_batches(num_images: int, batch_size: int) -> int:
    """Number of this process's batches."""
    return len(_my_starts(num_images, batch_size))


def _my_starts(num_images: int, batch_size: int) -> range:
    rank, world = get_dist_info()
    return range(rank * batch_size, num_images, world * batch_size)


class GeneratedImages:
    """A generator's samples; sample ``i`` depends on ``i`` and the seed alone.

    Args:
        generator: Called as ``generator(noise, label=label)``, in evaluation mode; gives float images in [-1, 1].
        inputs: Noise and label of every sample.
        num_images: How many samples there are.
        name: For messages.
    """

    def __init__(self, generator: nn.Module, inputs: SampleInputs, num_images: int, name: str = 'samples'):
        self.generator = generator
        self.inputs = inputs
        self.num_images = num_images
        self.name = name

    def __len__(self) -> int:
        return self.num_images

    @torch.no_grad()
    def batches(self, num_images: int, batch_size: int, device: torch.device) -> Iterator[ImageBatch]:
        for numbers in my_ranges(num_images, batch_size):
            noise, label = self.inputs.draw(numbers.start, numbers.stop)
            images = self.generator(noise.to(device), label=None if label is None else label.to(device))
            if not images.isfinite().all():
                raise DataError(f'the {self.name} hold NaN or Inf: the generator has diverged')
            if label is None:
                label = torch.zeros(len(noise), dtype=torch.long)
            yield ImageBatch(to_uint8(images), torch.arange(numbers.start, numbers.stop), label)


class RealImages:
    """A data set's images in a random order of their own, so that the first N are a random choice.

    The data set is built when its images are first asked for: statistics from a file make it unnecessary.

    Args:
        dataset: A data set or its config. Gives dicts of ``inputs`` (3, H, W) uint8 and ``labels``, images of the same size.
        num_workers: Processes that load images.
        seed: Of the order; None keeps the data set's.

    Attributes:
        content: The data set's config as text, without its place on this machine; it tells statistics of other images apart.
            Empty if it is not known: a data set without a config, or a packed one that is not here.
    """

    def __init__(self, dataset: Dataset | dict, num_workers: int = 0, seed: int | None = 0):
        if num_workers < 0 or (seed is not None and seed < 0):
            raise ConfigError(f'num_workers and seed must be at least 0, got {num_workers} and {seed}')
        self._given = dataset
        self.num_workers = num_workers
        self.seed = seed
        self.content = _content_of(dataset) if isinstance(dataset, dict) else ''

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data set."""
        dataset = DATASETS.build(self._given) if isinstance(self._given, dict) else self._given
        # In statistics an unreadable image must not be replaced by another one.
        if hasattr(dataset, 'max_unreadable_share'):
            dataset.max_unreadable_share = 0
        return dataset

    @functools.cached_property
    def order(self) -> np.ndarray:
        """Index of every image in the data set."""
        size = len(self.dataset)  # type: ignore[arg-type]  # which a map-style data set has
        return np.arange(size) if self.seed is None else np.random.RandomState(self.seed).permutation(size)

    @property
    def name(self) -> str:
        """For messages."""
        return getattr(self.dataset, 'name', type(self.dataset).__name__)

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes, if the data set has any."""
        return getattr(self.dataset, 'metainfo', {}).get('classes')

    def __len__(self) -> int:
        return len(self.order)

    @property
    def image_size(self) -> int:
        """Of the first image, in pixels."""
        return self.dataset[0]['inputs'].shape[-1]

    def batches(self, num_images: int, batch_size: int, device: torch.device) -> Iterator[ImageBatch]:
        ranges = my_ranges(num_images, batch_size)
        loader = DataLoader(
            self.dataset,
            batch_sampler=[self.order[numbers.start : numbers.stop].tolist() for numbers in ranges],
            num_workers=self.num_workers,
            collate_fn=_stack,
            # A generator of its own: starting the workers must not draw from the training's random numbers.
            generator=torch.Generator().manual_seed(0),
        )
        for numbers, (images, label) in zip(ranges, loader):
            yield ImageBatch(images.to(device), torch.arange(numbers.start, numbers.stop), label)


def _content_of(config: dict) -> str:
    content = {key: value for key, value in config.items() if key != 'data_root'}
    kind: Any = config.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if hasattr(kind, 'content_of'):
        try:
            content['content'] = kind.content_of(config)
        except DataError:
            return ''
    return json.dumps(content, sort_keys=True, default=str)


def _stack(samples: list[dict]) -> tuple[Tensor, Tensor]:
    sizes = {tuple(sample['inputs'].shape) for sample in samples}
    if len(sizes) > 1:
        raise DataError(f'images of mixed sizes: {" and ".join(map(str, sorted(sizes)[:2]))}; resize them in the pipeline')
    return torch.stack([sample['inputs'] for sample in samples]), torch.tensor([int(sample['labels']) for sample in samples])


class FlatImageFolder(Dataset):
    """All images below a folder, without classes.

    Args:
        folder: The folder; its own folders are searched, too.
        size: The centre square of every image is resized to this many pixels (bicubic); None takes images as they are.

    Raises:
        DataError: There are no images, some cannot be read, or they are of mixed sizes.
    """

    def __init__(self, folder: str | Path, size: int | None = None):
        self.name = str(folder)
        if not Path(folder).is_dir():
            raise DataError(f'{folder} is no folder of images')
        self.paths = sorted(path for path in Path(folder).rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
        if not self.paths:
            raise DataError(f'no images ({", ".join(IMAGE_SUFFIXES)}) in {folder}')
        self.pipeline: list[BaseTransform] = [LoadImageFromFile()]
        if size is None:
            self._check_sizes()
        else:
            self.pipeline += [CenterCropLongEdge(), Resize((size, size), interpolation='bicubic', backend='pillow')]
        self.pipeline.append(PackInputs())

    def _check_sizes(self) -> None:
        """Reads the files' headers: an odd one out is found at once, not after an hour."""
        first = None
        for path in self.paths:
            try:
                size = size_of(path)
            except UnreadableImageError as error:
                raise DataError(f'{path}: not an image ({error.reason})') from error
            first = first or (path, size)
            if size != first[1]:
                raise DataError(
                    f'images of mixed sizes: {first[0]} has {first[1][0]}x{first[1][1]} pixels, {path} has '
                    f'{size[0]}x{size[1]}; resize all of them with --size'
                )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        results = dict(img_path=str(self.paths[index]), gt_label=0)
        try:
            for transform in self.pipeline:
                results = transform(results)
        except UnreadableImageError as error:
            raise DataError(f'{error.path}: cannot be read ({error.reason})') from error
        return results
