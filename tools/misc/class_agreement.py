#!/usr/bin/env python
"""Measures how often a classifier recognizes the digit that a generator was asked for, and how varied the samples are.

The classifier is that of IS-digits and FID-digits. It was trained neither on the GAN's images nor on the 1 000 real digits that
measure its accuracy here.
"""

import argparse

import torch
from torch import Tensor

from mmsagan.apis import init_model
from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.datasets import EmbeddedMNIST
from mmsagan.evaluation import DigitsExtractor, GeneratedImages, RealImages, SampleInputs


def load_real(split: str) -> RealImages:
    return RealImages(EmbeddedMNIST(split=split, pipeline=[dict(type='PackInputs')]))


@torch.no_grad()
def classify(images: GeneratedImages | RealImages) -> tuple[Tensor, Tensor, Tensor]:
    """Returns images (N, 3, 32, 32), their labels (N,) and the predicted digits (N,)."""
    extractor = DigitsExtractor().eval()
    batches = list(images.batches(len(images), 250, torch.device('cpu')))
    predicted = [extractor(batch.images, ('probabilities',))['probabilities'].argmax(1) for batch in batches]
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.label for batch in batches]), torch.cat(predicted)


def variety(images: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor) -> float:
    """Returns the pixel variance within classes relative to real digits: 0 if all samples of a class are the same."""

    def variance(pool: Tensor, pool_labels: Tensor) -> Tensor:
        grey = pool.float().mean(1)
        return torch.stack([grey[pool_labels == digit].var(0).mean() for digit in range(10)])

    return (variance(images, labels) / variance(real, real_labels)).mean().item()


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth')
    parser.add_argument('config', help='config of a 32x32 GAN of digits')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--num-samples', type=at_least(1), default=1000, metavar='N', help='default: %(default)s')
    parser.add_argument('--seed', type=at_least(0), default=0, help='default: %(default)s')
    parser.add_argument(
        '--sample-model', choices=['ema', 'orig'], help='which generator; default: the moving average if there is one'
    )
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    model = init_model(args.config, args.checkpoint, cfg_options=args.cfg_options)

    _, labels, predicted = classify(load_real('test'))
    print(f'classifier on {len(labels)} held-out real digits: {(labels == predicted).float().mean():.1%}')
    inputs = SampleInputs(model.noise_size, model.num_classes, args.seed)
    generator = model.get_generator(args.sample_model).eval()
    samples, requested, predicted = classify(GeneratedImages(generator, inputs, args.num_samples))
    share = (requested == predicted).float().mean()
    print(f'classifier agrees with the requested digit on {share:.1%} of {args.num_samples} samples')
    real, real_labels, _ = classify(load_real('train'))
    print(f"variance within a class: {variety(samples, requested, real, real_labels):.2f} of the real digits'")


if __name__ == '__main__':
    run_tool(main)
