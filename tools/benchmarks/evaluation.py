#!/usr/bin/env python
"""Times evaluation: IS and FID in one pass against two passes, and FID's last step against scipy's matrix square root.

The extractor is pytorch-fid's InceptionV3 with random weights, which takes as long as with the published ones; the generator
is a SAGAN of the published width for 32x32 pixels.
"""

import argparse
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

from mmsagan.apis.cli import positive, run_tool
from mmsagan.engine.config import load_config
from mmsagan.evaluation import Evaluator, Statistics, frechet_distance, save_statistics
from mmsagan.evaluation.inception_v3 import InceptionV3
from mmsagan.models import ConditionalGAN
from mmsagan.registry import MODELS

CONFIG = 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'
WIDTH = 2048


def seconds(action) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def random_statistics(seed: int) -> tuple[np.ndarray, np.ndarray]:
    features = np.random.RandomState(seed).randn(2 * WIDTH, WIDTH)
    return features.mean(0), np.cov(features, rowvar=False)


def time_frechet_distance() -> None:
    first, second = random_statistics(0), random_statistics(1)
    distances = {}

    def ours() -> None:
        distances['ours'] = frechet_distance(*first, *second)

    def by_square_root() -> None:
        root = scipy.linalg.sqrtm(first[1] @ second[1]).real
        distances['scipy'] = ((first[0] - second[0]) ** 2).sum() + np.trace(first[1] + second[1] - 2 * root)

    print(
        f'FID of {WIDTH} features, last step: {seconds(ours):.2f} s; with scipy.linalg.sqrtm: {seconds(by_square_root):.1f} s'
    )
    print(f'  relative difference of the two distances: {abs(distances["ours"] / distances["scipy"] - 1):.1e}')


def time_passes(model: ConditionalGAN, num_samples: int, batch_size: int, folder: Path) -> None:
    torch.save(InceptionV3().state_dict(), folder / 'inception.pth')
    extractor = dict(type='PyTorchFIDInception', path=str(folder / 'inception.pth'))
    save_statistics(Statistics(*random_statistics(2), size=2 * WIDTH), folder / 'real.npz')
    metrics = [
        dict(type='InceptionScore', fake_nums=num_samples, resize=False, extractor=extractor),
        dict(
            type='FrechetInceptionDistance',
            fake_nums=num_samples,
            extractor=extractor,
            inception_pkl=str(folder / 'real.npz'),
        ),
    ]

    def evaluate(*chosen: dict) -> None:
        Evaluator(list(chosen)).evaluate_model(model, lambda: None, batch_size)

    together = seconds(lambda: evaluate(*metrics))
    print(f'IS and FID of {num_samples} samples in one pass: {together:.0f} s ({num_samples / together:.1f} samples/s)')
    apart = seconds(lambda: [evaluate(metric) for metric in metrics])
    print(f'  in two passes: {apart:.0f} s, {apart / together:.2f} times as long')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--num-samples', type=positive, default=10000)
    parser.add_argument('--batch-size', type=positive, default=50)
    args = parser.parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    name = torch.cuda.get_device_name() if device.type == 'cuda' else f'{os.cpu_count()} cores, {platform.processor() or "CPU"}'
    print(f'{date.today()}, {name}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads')
    model = MODELS.build(load_config(Path(__file__).parents[2] / CONFIG).model).to(device)
    time_frechet_distance()
    with tempfile.TemporaryDirectory() as folder:
        time_passes(model, args.num_samples, args.batch_size, Path(folder))


if __name__ == '__main__':
    run_tool(main)
