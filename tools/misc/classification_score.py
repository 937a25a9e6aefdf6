#!/usr/bin/env python
"""Trains a classifier on samples alone and scores it on real test images: the classification accuracy score (CAS).

The accuracy of the same classifier, trained on as many real images, is printed beside it. All images are kept in memory, which
is for small ones. Source: Ravuri & Vinyals 2019, who train a ResNet-50.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from mmsagan.cli.tool import add_model, add_sampling, at_least, run_tool, tool_parser
from mmsagan.errors import ConfigError, DataError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --per-class')
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
    import torch

    from mmsagan.apis import init_model
    from mmsagan.apis.sampling import class_names, sample_inputs
    from mmsagan.apis.statistics import has_same_classes
    from mmsagan.engine.config import complete_loader
    from mmsagan.engine.distributed import find_device
    from mmsagan.evaluation import GeneratedImages, RealImages

    sys.path.insert(0, str(Path(__file__).parent))
    from cas_classifiers import accuracies, load, make_classifier, test_images

    device = find_device(args.device)
    model = init_model(args.config, args.checkpoint, device, args.cfg_options)
    count, dataset = model.num_classes, complete_loader(model.cfg, 'test').get('dataset')
    if not count or not dataset:
        raise ConfigError(f'{args.config}: needs a model with classes, and test_dataloader.dataset, the real training images')
    make_classifier(args.classifier, count)  # now, since a mistake would be found late
    real = RealImages(dataset)
    held_out = test_images(args.test, model.cfg, real)
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
