#!/usr/bin/env python
"""Measures how often a classifier sees the digit that the demo's generator was asked for, and how varied the samples are.

The classifier is independent of the GAN: a small CNN trained here on 4 000 of the real digits; its accuracy on the others is
printed too.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsagan.apis.cli import CfgOptions, run_tool
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.datasets import EmbeddedMNIST
from mmsagan.engine.config import load_config
from mmsagan.models import ConditionalGAN
from mmsagan.registry import MODELS


def build_classifier() -> nn.Sequential:
    layers: list[nn.Module] = []
    for in_channels, out_channels in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.4), nn.Linear(128 * 4 * 4, 10))


def load_digits() -> tuple[Tensor, Tensor]:
    """The digits (5000, 1, 32, 32) in [-1, 1] and their labels, in a fixed random order."""
    dataset = EmbeddedMNIST()
    entries = [dataset.get_data_info(index) for index in range(len(dataset))]
    images = torch.stack([torch.tensor(entry['img'][..., 0]) for entry in entries])[:, None]
    labels = torch.tensor([entry['gt_label'] for entry in entries])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return images[order].float() / 127.5 - 1, labels[order]


def train_classifier(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """Adam with one cycle; each batch is shifted by up to two pixels."""
    classifier = build_classifier()
    batches = len(images) // 64
    optimizer = torch.optim.Adam(classifier.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * batches)
    for _ in range(epochs):
        for index in torch.randperm(len(images))[: batches * 64].split(64):
            shift = tuple(torch.randint(-2, 3, (2,)).tolist())
            loss = F.cross_entropy(classifier(images[index].roll(shift, (2, 3))), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval()


@torch.no_grad()
def agreement(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images (N, C, 32, 32) that are classified as their labels say."""
    predicted = torch.cat([classifier(part.mean(1, keepdim=True)).argmax(1) for part in images.split(250)])
    return (predicted == labels).float().mean().item()


def variety(images: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor) -> float:
    """Pixel variance within a class as a share of the real digits', averaged over classes: 0 when all samples are alike."""

    def variance(pool: Tensor, pool_labels: Tensor) -> Tensor:
        grey = pool.mean(1)
        return torch.stack([grey[pool_labels == digit].var(0).mean() for digit in range(10)])

    return (variance(images, labels) / variance(real, real_labels)).mean().item()


def sample_digits(model: ConditionalGAN, num_samples: int, seed: int, sample_model: str | None) -> tuple[Tensor, Tensor]:
    """Samples with as many of each class."""
    noise = torch.randn(num_samples, model.noise_size, generator=torch.Generator().manual_seed(seed))
    label = torch.arange(num_samples) % model.num_classes
    return torch.cat([model.sample(n, y, sample_model=sample_model) for n, y in zip(noise.split(250), label.split(250))]), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a 32x32 GAN of digits')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--num-samples', type=int, default=1000)
    parser.add_argument('--epochs', type=int, default=20, help='epochs that the classifier is trained for')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--sample-model', choices=['ema', 'orig'], help='default: the moving average if there is one')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='change config values')
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = MODELS.build(load_config(args.config, args.cfg_options).model)
    model.load_state_dict(load_checkpoint_file(args.checkpoint)['state_dict'])

    images, labels = load_digits()
    classifier = train_classifier(images[:4000], labels[:4000], args.epochs)
    accuracy = agreement(classifier, images[4000:], labels[4000:])
    samples, requested = sample_digits(model, args.num_samples, args.seed, args.sample_model)
    share = agreement(classifier, samples, requested)
    print(f'classifier on 1000 held-out real digits: {accuracy:.1%}')
    print(f'classifier agrees with the requested digit on {share:.1%} of {args.num_samples} samples')
    print(f"variance within a class: {variety(samples, requested, images, labels):.2f} of the real digits'")


if __name__ == '__main__':
    run_tool(main)
