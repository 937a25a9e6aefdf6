#!/usr/bin/env python
"""Trains the small extractor of the demo's IS-digits and FID-digits, and writes mmsagan/evaluation/weights/digits.pth.

It learns to classify 4 000 of the embedded MNIST digits. Its accuracy on the other 1 000 is printed.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmsagan.apis.cli import run_tool
from mmsagan.datasets import EmbeddedMNIST
from mmsagan.evaluation import DigitsExtractor


def load_digits(split: str) -> tuple[Tensor, Tensor]:
    """Digits (N, 1, 32, 32) in [-1, 1] and their labels."""
    entries = EmbeddedMNIST(split=split).data_list
    images = torch.from_numpy(np.stack([entry['img'][..., 0] for entry in entries]))[:, None]
    return images.float() / 127.5 - 1, torch.tensor([entry['gt_label'] for entry in entries])


def train(extractor: DigitsExtractor, images: Tensor, labels: Tensor, epochs: int, batch_size: int = 64) -> None:
    """Adam with one cycle of the learning rate; each batch is shifted by up to two pixels."""
    batches = len(images) // batch_size
    optimizer = torch.optim.Adam(extractor.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches)
    extractor.train()
    for _ in range(epochs):
        for index in torch.randperm(len(images))[: batches * batch_size].split(batch_size):
            shift = tuple(torch.randint(-2, 3, (2,)).tolist())
            features, _ = extractor.classify(images[index].roll(shift, (2, 3)))
            loss = F.cross_entropy(extractor.head(F.dropout(features, 0.3)), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    extractor.eval()


@torch.no_grad()
def scale_features(extractor: DigitsExtractor, images: Tensor) -> None:
    """Brings the features' root mean square to 1, which makes distances legible, and leaves the probabilities as they are."""
    scale = extractor.classify(images)[0].square().mean().sqrt()
    linear = extractor.trunk[-2]  # a leaky ReLU follows, through which the scale goes
    linear.weight /= scale
    linear.bias /= scale
    extractor.head.weight *= scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default=str(DigitsExtractor.weights), help='file of the weights (default: %(default)s)')
    parser.add_argument('--epochs', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    extractor = DigitsExtractor(trained=False)
    images, labels = load_digits('train')
    train(extractor, images, labels, args.epochs)
    scale_features(extractor, images)
    images, labels = load_digits('test')
    with torch.no_grad():
        accuracy = (extractor.classify(images)[1].argmax(1) == labels).float().mean().item()
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    torch.save(extractor.state_dict(), args.out)
    print(f'{accuracy:.1%} of {len(labels)} held-out digits are recognized')
    print(f'{Path(args.out).stat().st_size / 1024:.0f} KiB written to {args.out}')


if __name__ == '__main__':
    run_tool(main)
