#!/usr/bin/env python
"""Packs a data set: decodes and resizes its images once, into files that a training maps into memory.

SOURCE is a folder with one folder of images per class. After an interruption, run the same command again to continue. A
finished data set is compared with its checksums. The data set type PackedImages reads the result.
"""

import argparse
import os

from mmsagan.cli.tool import at_least, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'data/imagenet/train --size 128 --out data/imagenet_packed_128')
    parser.add_argument('source', nargs='?', metavar='SOURCE', help='e.g. data/imagenet/train')
    parser.add_argument(
        '--data-cfg', metavar='CONFIG', help='instead of SOURCE: the training data set of a config, by file or name'
    )
    parser.add_argument('--meta', metavar='FILE', help='list of the images in SOURCE, with lines "<class>/<image> <label>"')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the packed data set')
    parser.add_argument(
        '--size', type=at_least(1), default=128, metavar='PIXELS', help='side of the packed images (default: %(default)s)'
    )
    parser.add_argument(
        '--layout',
        choices=('square', 'short-side'),
        default='square',
        help='square: the center square, resized; short-side: the whole image, its short side resized, cropped when it is '
        'read (default: %(default)s)',
    )
    filters = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')
    parser.add_argument('--interpolation', choices=filters, default='bilinear', help="Pillow's (default: %(default)s)")
    parser.add_argument(
        '--workers',
        type=at_least(1),
        default=os.cpu_count(),
        metavar='N',
        help='processes (default: one per core)',
    )
    parser.add_argument(
        '--max-unreadable-share',
        type=float,
        default=0.01,
        metavar='SHARE',
        help='share of images that may be skipped (default: %(default)s)',
    )
    args = parser.parse_args()
    if (args.source is None) == (args.data_cfg is None):
        parser.error('give either SOURCE or --data-cfg')
    if args.meta and args.data_cfg:
        parser.error('--meta needs SOURCE; a config names its list itself')
    return args


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis.experiment import build_training_dataset
    from mmsagan.datasets import ImageFolder
    from mmsagan.datasets.packed import RECIPE, pack_dataset
    from mmsagan.utils import counted

    share = dict(max_unreadable_share=args.max_unreadable_share)
    if args.source is None:
        dataset, _ = build_training_dataset(args.data_cfg, **share)
    else:
        dataset = ImageFolder(data_root=args.source, ann_file=os.path.abspath(args.meta) if args.meta else '', **share)
    recipe = pack_dataset(dataset, args.out, args.size, args.layout, args.interpolation, args.workers)
    size = sum(note['bytes'] for note in recipe['files'].values())
    counts = f'{counted(recipe["num_images"], "image")}, {counted(len(recipe["classes"]), "class")}'
    print(f'{args.out!r}: {counts}, {size / 1e9:.2f} GB')
    if recipe['skipped']:
        print(f'images that cannot be read and were skipped: {len(recipe["skipped"])}; {RECIPE} lists them')
    print(f"in a config: dataset=dict(type='PackedImages', data_root={args.out!r}, pipeline=[dict(type='PackInputs')])")


if __name__ == '__main__':
    run_tool(main, parse_args)
