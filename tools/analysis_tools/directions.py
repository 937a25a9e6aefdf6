#!/usr/bin/env python
"""Draws what the strongest directions of the noise change: closed-form directions of a generator's first layers (SeFa).

A row has a sample in the middle, which moves along a direction to both sides; rows are ordered by the singular values. A .csv
file beside the picture has the directions.
"""

import argparse
from pathlib import Path

from mmsagan.cli.tool import add_labels, add_model, add_sampling, at_least, run_tool, tool_parser

MIN_SIZE = 64  # pixels of an image in the picture


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --labels 7 --out directions.png',
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --labels 7 --layers norms --seed 3 --out directions.png',
    )
    add_model(parser)
    parser.add_argument('--out', type=Path, required=True, help='.png file, which is overwritten, as is the .csv file')
    add_labels(parser, 'a random class; with several, one block of rows for each')
    help = 'linear layer before the first block, or those of norms that depend on the noise (default: %(default)s)'
    parser.add_argument('--layers', choices=['first', 'norms'], default='first', help=help)
    parser.add_argument('--num-directions', type=at_least(1), default=6, metavar='N', help='rows (default: %(default)s)')
    parser.add_argument('--distance', type=float, default=4.0, metavar='X', help='to either side (default: %(default)s)')
    parser.add_argument('--steps', type=at_least(1), default=4, metavar='N', help='images on a side (default: %(default)s)')
    add_sampling(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch

    from mmsagan.apis import init_model, sample
    from mmsagan.apis.inspection import noise_directions
    from mmsagan.apis.sampling import class_names, parse_classes, sample_inputs
    from mmsagan.engine.distributed import find_device
    from mmsagan.utils.files import check_picture_and_table, write_csv, write_output
    from mmsagan.visualization import image_grid
    from mmsagan.visualization.figures import encode_png, enlarge

    table = check_picture_and_table(args.out)
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    labels = parse_classes(args.labels, class_names(model.cfg, model.num_classes)) if args.labels is not None else [None]
    directions, values = noise_directions(model, args.layers, args.sample_model)
    directions, values = directions[: args.num_directions], values[: args.num_directions]
    noise, drawn = sample_inputs(model, args.seed).draw(0, 1)
    places = torch.linspace(-args.distance, args.distance, 2 * args.steps + 1)
    noise = (noise + places[:, None] * directions[:, None]).flatten(0, 1)
    options = dict(sample_model=args.sample_model, truncation=args.truncation)
    rows = []
    for label in labels:
        shown = drawn if label is None else torch.tensor([label])
        rows.append(sample(model, noise=noise, labels=None if shown is None else shown.expand(len(noise)), **options))
    write_output(args.out, encode_png(image_grid(enlarge(torch.cat(rows), MIN_SIZE), len(places))))
    lines = [['direction', 'singular_value', *(f'noise_{number}' for number in range(directions.shape[1]))]]
    for number, (value, direction) in enumerate(zip(values.tolist(), directions.tolist())):
        lines.append([number, f'{value:.6g}', *(f'{each:.6g}' for each in direction)])
    write_csv(table, lines)
    print(f'{len(directions)} directions written to {args.out}, as numbers to {table}')


if __name__ == '__main__':
    run_tool(main, parse_args)
