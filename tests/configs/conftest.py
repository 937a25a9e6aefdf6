"""Data sets and options by which every config of the repository trains within a second or two."""

import gzip
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmsagan.engine.config import load_config

_run_numbers = itertools.count()


@pytest.fixture(scope='session')
def imagenet1k_root(tmp_path_factory) -> Path:
    """ImageNet's layout with all 1 000 classes, whose folders are links to one with a single image."""
    root = tmp_path_factory.mktemp('imagenet1k')
    for name in ('meta', 'train', 'images'):
        (root / name).mkdir()
    Image.effect_noise((24, 20), 100).convert('RGB').save(root / 'images' / '0.JPEG')
    for number in range(1000):
        (root / 'train' / f'n{number:08d}').symlink_to('../images')
    (root / 'meta' / 'train.txt').write_text(''.join(f'n{number:08d}/0.JPEG {number}\n' for number in range(1000)))
    return root


@pytest.fixture(scope='session')
def fashion_root(tmp_path_factory) -> Path:
    """Fashion-MNIST's IDX files, two images a class."""
    root = tmp_path_factory.mktemp('fashion')
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    for split in ('train', 't10k'):
        for name, array in ((f'{split}-images-idx3-ubyte', pixels), (f'{split}-labels-idx1-ubyte', labels)):
            header = struct.pack(f'>BBBB{array.ndim}I', 0, 0, 8, array.ndim, *array.shape)
            (root / f'{name}.gz').write_bytes(gzip.compress(header + array.tobytes()))
    return root


@pytest.fixture
def small_run(tmp_path, cifar_root, imagenet1k_root, fashion_root):
    """Loads a config for a training of two iterations; only data root, batch size, width and the pictures' size are changed."""
    roots = dict(CIFAR10=cifar_root, ImageNet=imagenet1k_root, FashionMNIST=fashion_root, EmbeddedMNIST='')

    def load(path: Path, **options) -> Config:
        cfg = load_config(path)
        changes = {
            'train_dataloader.dataset.data_root': str(roots[cfg.train_dataloader.dataset.type]),
            'train_dataloader.batch_size': 2,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'model.generator.base_channels': 8,
            'model.discriminator.base_channels': 8,
            'custom_hooks.0.num_rows': 1,
            'custom_hooks.0.classes': [0, 1],
            # At least one of two iterations updates G.
            'model.discriminator_steps': min(cfg.model.discriminator_steps, 2),
            'train_cfg.max_iters': 2,
            **options,
        }
        cfg.merge_from_dict(changes)
        cfg.launcher, cfg.work_dir = 'none', str(tmp_path / 'run')
        # MMEngine keeps loggers and message hubs by experiment name, to the second.
        cfg.experiment_name = f'test-config-{next(_run_numbers)}'
        return cfg

    return load
