"""Reading images for a training at 128x128: a packed data set against decoding JPEGs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.runner import Runner
from PIL import Image
from torch import nn

from mmsagan.analysis.benchmarks.sides import Setup
from mmsagan.analysis.measuring import Action
from mmsagan.analysis.workloads import Workload
from mmsagan.datasets import ImageFolder
from mmsagan.datasets.packed import pack_dataset
from mmsagan.engine.config import config_errors, load_config
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS
from mmsagan.utils.files import shipped_root

JPEGS, PACKED = 'imagenet_128', 'imagenet_packed_128'
SIZE, LAYOUT = 128, 'short-side'  # what the config PACKED says that it reads
# About ImageNet's mean, which is 500x375 pixels and 110 KB at that quality.
WIDTH, HEIGHT, QUALITY, CLASSES = 500, 375, 90, 10
NUM_IMAGES = 512


def data_workload(
    data_root: str | None, num_images: int | None, batch_size: int | None, setup: Setup, folder: Path
) -> Workload:
    """Reads images by the data loaders of two configs, in this process, until they are float on the device.

    One is :data:`JPEGS`, with each image decoded, cropped, resized and flipped by itself; the other is :data:`PACKED`, with
    whole batches, on the same images. They come from the system's file cache, since few are read again and again.

    Args:
        data_root: Folder with one folder of images a class; None makes images like ImageNet's.
        num_images: How many images are read in a call, whole batches of them, and how many there are; None:
            :data:`NUM_IMAGES`, or all in ``data_root`` if there are less.
        batch_size: None: the config's.
        setup: What all measurements have in common.
        folder: An empty folder for images, which the workload needs as long as it is used.

    Raises:
        ConfigError: There are fewer images than in a batch.
        DataError: There are no images in the folder.
    """
    count = num_images or NUM_IMAGES
    if data_root is None:
        make_photographs(folder / 'photographs', count)
    source = choose_images(Path(data_root or folder / 'photographs'), count, folder / 'images.txt')
    pack_dataset(ImageFolder(**source), folder / 'packed', SIZE, LAYOUT)
    batch_size = batch_size or _load(PACKED).train_dataloader.batch_size
    rounds = min(count, len(ImageFolder(**source))) // batch_size
    if not rounds:
        raise ConfigError(f'{count} images are less than a batch of {batch_size}; give another --num-samples or --batch-size')
    of_files = dict(source, type='ImageFolder', data_prefix='')
    return Workload(
        what='data',
        config=PACKED,
        precision='fp32',
        fast=_reader(PACKED, dict(data_root=str(folder / 'packed')), batch_size, rounds, setup),
        images=rounds * batch_size,
        reference=_reader(JPEGS, of_files, batch_size, rounds, setup) if setup.against_reference else None,
    )


def _reader(config: str, dataset: Mapping, batch_size: int, num_batches: int, setup: Setup) -> Action:
    """The action of taking some batches of a config's training data to the device."""
    cfg = _load(config, {f'train_dataloader.dataset.{key}': value for key, value in dataset.items()})
    options = dict(batch_size=batch_size, num_workers=0, persistent_workers=False, pin_memory=setup.device.type == 'cuda')
    with config_errors():
        loader = Runner.build_dataloader(dict(cfg.train_dataloader, **options), seed=0)
        preprocessor: nn.Module = MODELS.build((cfg.get('model') or {}).get('data_preprocessor', dict(type='DataPreprocessor')))
    preprocessor.to(setup.device)
    batches = iter(loader)  # without end

    def read() -> None:
        for _ in range(num_batches):
            preprocessor(next(batches), True)

    return read


def _load(name: str, options: dict | None = None):
    return load_config(shipped_root() / 'configs' / '_base_' / 'datasets' / f'{name}.py', options)


# -------------------------------------------------------------------------------------------------------------- the images


def choose_images(root: Path, count: int, out: Path) -> dict:
    """Chooses images of a folder, evenly from all of it, and lists them in a file.

    Args:
        root: Folder with one folder of images a class.
        count: How many; all, if there are less.
        out: The file.

    Returns:
        Arguments for a data set of them.

    Raises:
        DataError: There are none.
    """
    every = ImageFolder(data_root=str(root))
    chosen = np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int)
    entries = [every.get_data_info(int(index)) for index in chosen]
    # Of a few images there may be none in a class.
    labels = {label: place for place, label in enumerate(sorted({entry['gt_label'] for entry in entries}))}
    lines = [f'{Path(entry["img_path"]).relative_to(root)} {labels[entry["gt_label"]]}\n' for entry in entries]
    out.write_text(''.join(lines), encoding='utf-8')
    return dict(data_root=str(root), ann_file=str(out.absolute()))


def make_photographs(folder: Path, count: int) -> None:
    """Writes JPEGs that are as large, as files and in pixels, as ImageNet's, in :data:`CLASSES` folders.

    Args:
        folder: New folder for them.
        count: How many.
    """
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f'class_{number % CLASSES}' / f'{number:06d}.JPEG'
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (HEIGHT, WIDTH) if number % 4 == 0 else (WIDTH, HEIGHT)
        _photograph(random, size).save(path, quality=QUALITY)


def _photograph(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Noise of several sizes, the coarser the stronger, as in photographs; the finest is what makes the file large."""
    pixels = np.zeros((size[1], size[0], 3), np.float32)
    for scale, strength in ((128, 60), (32, 30), (8, 16), (2, 34)):
        coarse = random.integers(0, 256, (size[1] // scale + 2, size[0] // scale + 2, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        pixels += (np.asarray(fine, np.float32) - 127.5) * (strength / 74)  # 74: standard deviation of the noise
    return Image.fromarray((pixels + 127.5).clip(0, 255).astype(np.uint8))
