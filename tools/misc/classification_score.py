#!/usr/bin/env python
"""Trains a classifier on samples alone and scores it on real test images: the classification accuracy score (CAS).

The accuracy of the same classifier, trained on as many real images, is printed beside it. All images are kept in memory, which
is for small ones. Source: Ravuri & Vinyals 2019, who train a ResNet-50.
"""

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsagan.apis import init_model
from mmsagan.apis.sampling import class_names, sample_inputs
from mmsagan.apis.statistics import has_same_classes
from mmsagan.cli.tool import add_model, add_sampling, at_least, run_tool, tool_parser
from mmsagan.engine.config import complete_loader
from mmsagan.engine.distributed import find_device
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import DigitsExtractor, GeneratedImages, RealImages, open_images

sys.path.insert(0, str(Path(__file__).parent))
from train_small_extractor import train  # noqa: E402


class Pixels(nn.Module):
    """Maps images (N, 3, H, W), uint8, to [-1, 1], resized to ``size`` if it is given."""

    def __init__(self, size: int | None = None):
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        scaled = images.float() / 127.5 - 1
        if self.size in (None, images.shape[-1]):
            return scaled
        return F.interpolate(scaled, (self.size, self.size), mode='bilinear', antialias=True)


def make_classifier(name: str, num_classes: int) -> nn.Module:
    """Builds a classifier of images (N, 3, H, W), uint8: ``small``, ``timm:NAME`` or ``torchvision:NAME``."""
    if name == 'small':
        trunk = DigitsExtractor(trained=False).trunk
        trunk[0] = nn.Conv2d(3, trunk[0].out_channels, 3, padding=1)
        return nn.Sequential(Pixels(32), trunk, nn.Dropout(0.3), nn.Linear(64, num_classes))
    library, _, model = name.partition(':')
    try:
        module, function = dict(timm=('timm', 'create_model'), torchvision=('torchvision.models', 'get_model'))[library]
        return nn.Sequential(Pixels(), getattr(importlib.import_module(module), function)(model, num_classes=num_classes))
    except (KeyError, ImportError, RuntimeError, ValueError) as error:
        known = 'small, or timm:NAME or torchvision:NAME of a library that is installed'
        raise ConfigError(f'--classifier {name}: expected {known}: {error}') from error


def load(images: GeneratedImages | RealImages, num_images: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first images (N, 3, H, W), uint8, and their labels (N,), on the CPU."""
    batches = [(batch.images.cpu(), batch.label.cpu()) for batch in images.batches(num_images, 250, device)]
    pixels, labels = map(torch.cat, zip(*batches))
    return pixels, labels


def accuracies(
    network: nn.Module, training: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int, epochs: int
) -> Tensor:
    """Trains a classifier and returns its accuracies on the test images: of all, then of each class, (1 + num_classes,)."""
    train(network, *training, epochs)
    with torch.no_grad():
        device = next(network.parameters()).device
        right = torch.cat([network(images.to(device)).argmax(1).cpu() for images in test[0].split(250)]) == test[1]
    return torch.stack([right.float().mean(), *(right[test[1] == label].float().mean() for label in range(num_classes))])


def test_images(args: argparse.Namespace, cfg, real: RealImages) -> RealImages:
    """Those of ``--test``, or else those that the config holds out, or CIFAR-10's."""
    evaluator = cfg.get('test_evaluator')
    held_out = evaluator.get('held_out') if isinstance(evaluator, dict) else None
    if args.test is not None:
        return RealImages(open_images(args.test))
    if held_out is None and real.config.get('type') == 'CIFAR10':
        held_out = dict(real.config, test_mode=True)
    if held_out is None:
        raise ConfigError('the config holds out no real images (test_evaluator.held_out): give a folder of classes as --test')
    return RealImages(held_out)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b32x1 work_dirs/digits/iter_2500.pth --per-class')
    add_model(parser)
    help = "real test images: a folder of class folders, a .zip, .tar or .npz file; default: the config's held-out images"
    parser.add_argument('--test', metavar='SOURCE', help=help)
    help = 'samples, and at most as many real training images; default: the number of real training images'
    parser.add_argument('--num-samples', type=at_least(1), metavar='N', help=help)
    help = 'small (a network of this package, for 32x32 pixels), timm:NAME or torchvision:NAME; default: %(default)s'
    parser.add_argument('--classifier', default='small', metavar='NAME', help=help)
    parser.add_argument('--epochs', type=at_least(1), default=20, metavar='N', help='default: %(default)s')
    parser.add_argument('--per-class', action='store_true', help='print the accuracies of the classes, too')
    add_sampling(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    device = find_device(args.device)
    model = init_model(args.config, args.checkpoint, device, args.cfg_options)
    count, dataset = model.num_classes, complete_loader(model.cfg, 'test').get('dataset')
    if not count or not dataset:
        raise ConfigError(f'{args.config}: needs a model with classes, and test_dataloader.dataset, the real training images')
    make_classifier(args.classifier, count)  # now, since a mistake would be found late
    real = RealImages(dataset)
    held_out = test_images(args, model.cfg, real)
    known, classes = ([*images.dataset.metainfo['classes']] for images in (real, held_out))
    # Labels are compared: folders in another order than the model's classes, or without one of them, would have other labels.
    if not has_same_classes(classes, known):
        raise DataError(f'the test images have the classes {classes!r:.200}, the training images {known!r:.200}')
    test = load(held_out, len(held_out), device)
    num_samples = args.num_samples or len(real)
    inputs = replace(sample_inputs(model, args.seed), truncation=args.truncation)
    samples = GeneratedImages(model.get_generator(args.sample_model).eval(), inputs, num_samples)
    rows = []
    for images in (samples, real):
        torch.manual_seed(args.seed)
        network = make_classifier(args.classifier, count).to(device)
        rows.append(accuracies(network, load(images, min(num_samples, len(images)), device), test, count, args.epochs))
    names = ['all classes', *class_names(model.cfg, count)] if args.per_class else ['all classes']
    print(f'accuracy on {len(test[1])} real test images: trained on {num_samples} samples, trained on real images')
    for name, on_samples, on_real in zip(names, *rows):
        print(f'{name}: {on_samples:.1%}, {on_real:.1%}')


if __name__ == '__main__':
    run_tool(main, parse_args)
