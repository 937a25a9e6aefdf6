#!/usr/bin/env python
"""Trains a small extractor of this package and writes mmsagan/evaluation/weights/<name>.pth.

``digits`` is trained on 4 000 of the embedded MNIST digits and tested on the other 1 000, ``fashion`` on Fashion-MNIST's
training and test images. Prints the accuracy.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsagan.cli.tool import at_least, run_tool, tool_parser
from mmsagan.datasets import EmbeddedMNIST, FashionMNIST
from mmsagan.evaluation import DigitsExtractor, FashionExtractor
from mmsagan.evaluation.extractors import SmallClassifier

EXTRACTORS = {'digits': DigitsExtractor, 'fashion': FashionExtractor}
EPOCHS = {'digits': 30, 'fashion': 8}


def load_images(name: str, is_test: bool) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 32, 32) in [-1, 1] and their labels."""
    if name == 'digits':
        dataset = EmbeddedMNIST(split='test' if is_test else 'train')
    else:
        dataset = FashionMNIST(test_mode=is_test)
    return torch.from_numpy(dataset.images).float() / 127.5 - 1, torch.from_numpy(dataset.labels)


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, batch_size: int = 64) -> None:
    """Trains a classifier with Adam and one cycle of the learning rate; each batch is shifted by up to two pixels."""
    batch_size = min(batch_size, len(images))
    batches, device = len(images) // batch_size, next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches)
    network.train()
    for _ in range(epochs):
        for index in torch.randperm(len(images))[: batches * batch_size].split(batch_size):
            shift = tuple(torch.randint(-2, 3, (2,)).tolist())
            logits = network(images[index].roll(shift, (2, 3)).to(device))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[index].to(device)).backward()
            optimizer.step()
            schedule.step()
    network.eval()


@torch.no_grad()
def scale_features(extractor: SmallClassifier, images: Tensor) -> None:
    """Scales the features to a root mean square of 1, and keeps the probabilities."""
    scale = extractor.classify(images)[0].square().mean().sqrt()
    linear = extractor.trunk[-2]  # followed by a leaky ReLU, which commutes with scaling
    linear.weight /= scale
    linear.bias /= scale
    extractor.head.weight *= scale


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'digits --out digits.pth')
    parser.add_argument('name', choices=list(EXTRACTORS), help='which extractor')
    parser.add_argument('--out', metavar='FILE', help="output file; default: the package's")
    parser.add_argument('--epochs', type=at_least(1), metavar='N', help=f'default: {EPOCHS}')
    parser.add_argument('--seed', type=at_least(0), default=0, help='default: %(default)s')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    extractor = EXTRACTORS[args.name](trained=False)
    images, labels = load_images(args.name, is_test=False)
    network = nn.Sequential(extractor.trunk, nn.Dropout(0.3), extractor.head)
    train(network, images, labels, args.epochs or EPOCHS[args.name])
    scale_features(extractor, images[:4000])
    images, labels = load_images(args.name, is_test=True)
    with torch.no_grad():
        accuracy = (extractor.classify(images)[1].argmax(1) == labels).float().mean().item()
    out = Path(args.out or extractor.weights)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(extractor.state_dict(), out)
    print(f'{accuracy:.1%} of {len(labels)} held-out images are classified correctly')
    print(f'{out.stat().st_size / 1024:.0f} KiB written to {out}')


if __name__ == '__main__':
    run_tool(main)
