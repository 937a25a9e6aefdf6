#!/usr/bin/env python
"""Times evaluation: IS and FID in one pass against two passes, and FID's last step against scipy's matrix square root.

Measured are the demo's generator and its extractor for digits, and the published SAGAN for 32x32 pixels with pytorch-fid's
InceptionV3, whose weights are random here, which takes as long as the published ones.
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

from mmsagan.apis.cli import at_least, run_tool
from mmsagan.engine.config import load_config
from mmsagan.evaluation import Evaluator, Statistics, frechet_distance, save_statistics
from mmsagan.evaluation.inception_v3 import InceptionV3
from mmsagan.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs' / 'sagan'
DEMO = CONFIGS / 'sagan_32_mnist_b64x1.py'
PUBLISHED = CONFIGS / 'sagan_32_woReLUinplace_cifar10_b64x1.py'
WIDTH = 2048


def seconds(action) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def random_statistics(seed: int, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    features = np.random.RandomState(seed).randn(2 * width, width)
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


def time_passes(config: Path, extractor: dict, width: int, num_samples: int, device: torch.device, folder: Path) -> None:
    model = MODELS.build(load_config(config).model).to(device)
    real = folder / f'{width}.npz'
    save_statistics(Statistics(*random_statistics(2, width), size=2 * width), real)
    arguments = dict(fake_nums=num_samples, extractor=extractor)
    metrics = [
        dict(type='InceptionScore', resize=False, **arguments),
        dict(type='FrechetInceptionDistance', inception_pkl=str(real), **arguments),
    ]

    def evaluate(*chosen: dict) -> None:
        Evaluator(list(chosen)).evaluate_model(model, None, batch_size=50)

    together = seconds(lambda: evaluate(*metrics))
    print(f'{config.stem}, {extractor["type"]}: IS and FID of {num_samples} samples')
    print(f'  in one pass:   {together:.1f} s ({num_samples / together:.1f} samples/s)', flush=True)
    apart = seconds(lambda: [evaluate(metric) for metric in metrics])
    print(f'  in two passes: {apart:.1f} s, {apart / together:.2f} times as long', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--num-samples', type=at_least(1), default=10000, help='with the digits extractor (default: %(default)s)'
    )
    parser.add_argument('--num-inception', type=at_least(1), default=10000, help='with InceptionV3 (default: %(default)s)')
    args = parser.parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    name = torch.cuda.get_device_name() if device.type == 'cuda' else f'{os.cpu_count()} cores, {platform.processor() or "CPU"}'
    print(f'{date.today()}, {name}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads')
    time_frechet_distance()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        time_passes(DEMO, dict(type='DigitsExtractor'), 64, args.num_samples, device, folder)
        torch.save(InceptionV3().state_dict(), folder / 'inception.pth')
        extractor = dict(type='PyTorchFIDInception', path=str(folder / 'inception.pth'))
        time_passes(PUBLISHED, extractor, WIDTH, args.num_inception, device, folder)


if __name__ == '__main__':
    run_tool(main)
