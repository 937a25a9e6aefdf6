#!/usr/bin/env python
"""Draws what lies between samples: from one noise vector to another, or from class to class with the same noise.

A .png file gets a row for each seed; a .gif or .mp4 file shows the rows as films, side by side, back and forth. A .csv file
beside it lists the seed and the classes of each image. MP4 needs the package imageio-ffmpeg.
"""

import argparse
from itertools import pairwise
from pathlib import Path

from mmsagan.cli.tool import add_labels, add_model, add_sampling, at_least, run_tool, tool_parser
from mmsagan.errors import ConfigError

MIN_SIZE = 64  # pixels of an image in the picture


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --labels 3,8 --seeds 0 1 2 --out threes_to_eights.png',
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --labels 0-9 --out digits.gif',
    )
    add_model(parser)
    parser.add_argument('--out', type=Path, required=True, help='.png, .gif or .mp4 file, which is overwritten, as is the .csv')
    add_labels(parser, 'a random one for each seed; with several, from class to class')
    parser.add_argument('--seeds', nargs='+', type=at_least(0), metavar='N', help='a row or film for each; default: --seed')
    parser.add_argument(
        '--steps', type=at_least(2), default=9, metavar='N', help='images per segment, with both ends (default: %(default)s)'
    )
    parser.add_argument('--fps', type=at_least(1), default=12, metavar='N', help='images per second (default: %(default)s)')
    add_sampling(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from torch import Tensor

    from mmsagan.apis import init_model, interpolate
    from mmsagan.apis.sampling import class_names, parse_classes, sample_inputs
    from mmsagan.engine.distributed import find_device
    from mmsagan.utils.files import check_picture_and_table, write_csv, write_output
    from mmsagan.visualization import image_grid
    from mmsagan.visualization.figures import encode_film, encode_png, enlarge, has_ffmpeg

    if args.out.suffix.lower() == '.mp4' and not has_ffmpeg():
        raise ConfigError('MP4 needs ffmpeg: pip install imageio-ffmpeg; or write a .gif file')
    table = check_picture_and_table(args.out, ('.png', '.gif', '.mp4'))
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    names = class_names(model.cfg, model.num_classes)
    labels = [label for part in (args.labels or '').split(',') if part for label in parse_classes(part, names)]
    options = dict(sample_model=args.sample_model, truncation=args.truncation)
    lines: list[list] = [['row', 'image', 'seed', 'from', 'to', 'share']]
    rows: list[Tensor] = []
    for row, seed in enumerate(args.seeds or [args.seed]):
        first = sample_inputs(model, seed).draw(0, 1)[1]
        path = labels or ([] if first is None else first.tolist())
        parts: list[Tensor] = []
        for ends in pairwise(path) if len(path) > 1 else [tuple(path)]:
            start = len(parts) > 0  # each part begins with the last image of the one before
            parts.append(interpolate(model, args.steps, labels=ends or None, seed=seed, **options)[start:])
            said = [names[end] for end in (ends[0], ends[-1])] if ends else ['', '']
            for step in range(int(start), args.steps):
                number = sum(map(len, parts)) - args.steps + step
                lines.append([row, number, seed, *said, f'{step / (args.steps - 1):.6g}'])
        rows.append(torch.cat(parts))
    images = enlarge(torch.stack(rows), MIN_SIZE)  # (seeds, steps, 3, H, W)
    if args.out.suffix.lower() == '.png':
        write_output(args.out, encode_png(image_grid(images.flatten(0, 1), images.shape[1])))
    else:
        frames = [image_grid(images[:, step], len(images)) for step in range(images.shape[1])]
        write_output(args.out, encode_film(frames, args.fps, args.out.suffix.lower()))
    write_csv(table, lines)
    print(f'{images.shape[0]} x {images.shape[1]} images written to {args.out}, their seeds and classes to {table}')


if __name__ == '__main__':
    run_tool(main, parse_args)
