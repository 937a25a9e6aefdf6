#!/usr/bin/env python
"""Draws samples beside the training images that are nearest to them in the feature space of an extractor: are they copies?

Below, as the yardstick, are real images that are not among these training images, with theirs: samples of a model that has
memorised are nearer to training images than those. Under each neighbour are its distance and its class. A .csv file beside the
figure has the same, and the numbers of the images in the training set. The default extractor is that of the config's FID.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmsagan.cli.tool import (
    add_extractor,
    add_labels,
    add_model,
    add_sampling,
    at_least,
    extractor_options,
    run_tool,
    tool_parser,
)

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import Config
    from torch import Tensor

    from mmsagan.evaluation import Evaluator

# In pixels: the least width of an image, and the space below it and to the right of the first one of a row.
MIN_WIDTH, CAPTION, GAP = 96, 20, 24


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out neighbours.png',
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out neighbours.png --labels 3,8 --num-neighbours 8',
    )
    add_model(parser)
    parser.add_argument('--out', type=Path, required=True, help='.png file, which is overwritten, as is the .csv file')
    add_labels(parser, 'random ones')
    parser.add_argument(
        '--num-samples', type=at_least(1), metavar='N', help='samples of random classes, instead of one of each of --labels (8)'
    )
    parser.add_argument('--num-neighbours', type=at_least(1), default=5, metavar='K', help='per image (default: %(default)s)')
    help = "real images for comparison: folder, .zip, .tar, .tar.gz or .npz; default: the config's, or some training images"
    parser.add_argument('--held-out', metavar='SOURCE', help=help)
    parser.add_argument('--batch-size', type=at_least(1), default=64, metavar='N', help='default: %(default)s')
    parser.add_argument(
        '--num-workers', type=at_least(0), default=2, metavar='N', help='processes that load images (default: %(default)s)'
    )
    add_extractor(parser)
    add_sampling(parser)
    return parser.parse_args()


def load_images(cfg: Config, args: argparse.Namespace, evaluator: Evaluator | None, count: int) -> tuple:
    """Training images without augmentation, and ``count`` held-out images, each with their numbers in their data set.

    Without held-out ones, these are some of the training images, which the former then lack.
    """
    import numpy as np

    from mmsagan.apis.inspection import training_config
    from mmsagan.engine.config import config_errors
    from mmsagan.evaluation import open_images
    from mmsagan.registry import DATASETS

    config = training_config(cfg)
    own = [dict(config, **metric.dataset) for metric in evaluator.metrics if metric.dataset] if evaluator else []
    if evaluator and evaluator.held_out is not None:
        own.append(evaluator.held_out.config)  # which may be training images where the metrics have others
    known = args.held_out or next(iter(own), None)
    with config_errors():
        dataset = DATASETS.build(config)
        size = dataset[0]['inputs'].shape[1] if args.held_out else None
        others = open_images(args.held_out, size) if args.held_out else DATASETS.build(known) if known else dataset
    order = np.random.RandomState(args.seed).permutation(len(others))
    chosen, rest = np.sort(order[:count]), np.arange(len(dataset)) if known else np.sort(order[count:])
    return dataset.get_subset(rest.tolist()), rest, others.get_subset(chosen.tolist()), chosen


def draw(title: str, rows: Tensor, captions: list[list[str]]) -> np.ndarray:
    """Lays out rows of images (N, K, 3, H, W) uint8 with a caption below each; the first of each row stands apart."""
    import numpy as np
    import torch.nn.functional as F

    from mmsagan.visualization import image_grid
    from mmsagan.visualization.figures import enlarge, pixel_figure, printable, to_array

    rows = F.pad(enlarge(rows, MIN_WIDTH), (0, 0, 0, CAPTION), value=255)
    first, others = image_grid(rows[:, 0], 1), image_grid(rows[:, 1:].flatten(0, 1), rows.shape[1] - 1)
    grid = np.concatenate([first, np.full((len(first), GAP, 3), 255, np.uint8), others], axis=1)
    grid = np.concatenate([np.full((2 * CAPTION, *grid.shape[1:]), 255, np.uint8), grid])
    height, width = grid.shape[:2]
    figure = pixel_figure(width, height)
    figure.figimage(grid)
    figure.text(4 / width, 1 - CAPTION / height, title, fontsize=9, va='center')
    for row, texts in enumerate(captions):
        for column, text in enumerate(texts):
            x = (rows.shape[4] + 2) * (column + 0.5) + (GAP if column else 0)
            y = 2 * CAPTION + (rows.shape[3] + 2) * (row + 1) - CAPTION / 2
            options = dict(ha='center', va='center', fontsize=7, parse_math=False)
            figure.text(x / width, 1 - y / height, printable(text), **options)
    return to_array(figure)


def main(args: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from mmsagan.apis.inference import init_model
    from mmsagan.apis.inspection import NearestImages, fid_extractor
    from mmsagan.apis.sampling import SampleSet, class_names, parse_classes
    from mmsagan.engine.config import config_errors
    from mmsagan.engine.distributed import find_device
    from mmsagan.engine.loops import build_evaluator
    from mmsagan.evaluation import RealImages
    from mmsagan.utils.files import check_picture_and_table, write_csv, write_output
    from mmsagan.visualization.figures import encode_png

    table = check_picture_and_table(args.out)
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    labels = parse_classes(args.labels, class_names(model.cfg, model.num_classes)) if args.labels is not None else None
    number = 8 if labels is None and args.num_samples is None else args.num_samples
    options = dict(seed=args.seed, sample_model=args.sample_model, truncation=args.truncation)
    samples = SampleSet(model, labels, 1 if labels else None, number, batch_size=args.batch_size, **options)
    config = model.cfg.get('test_evaluator') or model.cfg.get('val_evaluator')
    with config_errors():
        evaluator = build_evaluator(config) if config else None
    training, numbers, held_out, held_out_numbers = load_images(model.cfg, args, evaluator, samples.num_samples)
    real = next(RealImages(held_out, seed=None).batches(len(held_out), len(held_out), torch.device('cpu')))
    images = torch.cat([*(images for _, images in samples.batches()), real.images])

    extractor = extractor_options(args) or fid_extractor(model.cfg)
    search = NearestImages(training, args.num_neighbours, args.batch_size, args.num_workers, **extractor)
    distances, nearest = search(images.to(model.device))

    names = training.metainfo['classes']
    lines: list[list] = [['kind', 'number', 'class', 'rank', 'distance', 'training_number', 'training_class']]
    rows, captions = [], []
    drawn = samples.labels.tolist() if samples.labels is not None else [None] * samples.num_samples
    queries = [('sample', number, '' if label is None else names[label]) for number, label in enumerate(drawn)]
    for place, label in zip(real.index.tolist(), real.label.tolist()):
        queries.append(('real', held_out_numbers[place], held_out.metainfo['classes'][label]))
    for (kind, number, name), image, places, lengths in zip(queries, images.cpu(), nearest.tolist(), distances.tolist()):
        found = [training[place] for place in places]
        rows.append(torch.stack([image, *(each['inputs'] for each in found)]))
        captions.append([f'{kind} {number}, {name}'.strip(', ')])
        for rank, (place, each, length) in enumerate(zip(places, found, lengths), 1):
            captions[-1].append(f'{length:.3f}, {names[each["labels"]]}')
            lines.append([kind, number, name, rank, f'{length:.6g}', numbers[place], names[each['labels']]])
    count, title = samples.num_samples, f'and the {args.num_neighbours} training images nearest to each (distance, class)'
    parts = [
        draw(f'samples, {title}', torch.stack(rows[:count]), captions[:count]),
        draw(f'held-out real images, {title}', torch.stack(rows[count:]), captions[count:]),
    ]
    write_output(args.out, encode_png(np.concatenate(parts)))
    write_csv(table, lines)
    medians = [distances[part, 0].median() for part in (slice(count), slice(count, None))]
    print('median distance to the nearest training image: {:.3f} of samples, {:.3f} of held-out images'.format(*medians))
    print(f'figure written to {args.out}, distances to {table}')


if __name__ == '__main__':
    run_tool(main, parse_args)
