#!/usr/bin/env python
"""Packs a data set: decodes and resizes its images once, into one file that trainings map into memory.

SOURCE is a folder with one folder of images a class. A call that was stopped goes on where it was when it is made again; one
that had finished compares the files with their checksums. The data set type PackedImages reads the result.
"""

import argparse
import os

from mmsagan.apis.zoo import resolve_config
from mmsagan.cli.tool import at_least, run_tool, tool_parser
from mmsagan.datasets import ClassImageDataset, ImageFolder
from mmsagan.datasets.packed import LAYOUTS, RECIPE
from mmsagan.datasets.packing import INTERPOLATIONS, pack_dataset
from mmsagan.engine.config import complete_loader, load_config
from mmsagan.engine.config_check import find_component
from mmsagan.errors import ConfigError
from mmsagan.registry import DATASETS
from mmsagan.utils.workers import available_cores


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'data/imagenet/train --size 128 --out data/imagenet_packed_128')
    parser.add_argument('source', nargs='?', metavar='SOURCE', help='e.g. data/imagenet/train')
    parser.add_argument(
        '--data-cfg', metavar='CONFIG', help='in place of SOURCE: the training data set of a config, by its file or its name'
    )
    parser.add_argument('--meta', metavar='FILE', help='list of the images in SOURCE, lines "<class>/<image> <label>"')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the packed data set')
    parser.add_argument(
        '--size', type=at_least(1), default=128, metavar='PIXELS', help='side of the packed images (default: %(default)s)'
    )
    parser.add_argument(
        '--layout',
        choices=LAYOUTS,
        default='square',
        help='square: the centre square, resized; short-side: the whole image with its short side resized, to be cropped when '
        'it is read, at random or not (default: %(default)s)',
    )
    parser.add_argument('--interpolation', choices=INTERPOLATIONS, default='bilinear', help="Pillow's (default: %(default)s)")
    parser.add_argument(
        '--workers', type=at_least(1), default=available_cores(), metavar='N', help='processes (default: one a core)'
    )
    parser.add_argument(
        '--max-unreadable-share',
        type=float,
        default=0.01,
        metavar='SHARE',
        help='how many images may be skipped (default: %(default)s)',
    )
    args = parser.parse_args()
    if (args.source is None) == (args.data_cfg is None):
        parser.error('give either SOURCE or --data-cfg')
    if args.meta and args.data_cfg:
        parser.error('--meta goes with SOURCE; a config names its list itself')
    return args


def load_dataset(args: argparse.Namespace) -> ClassImageDataset:
    share = dict(max_unreadable_share=args.max_unreadable_share)
    if args.source is not None:
        return ImageFolder(data_root=args.source, ann_file=os.path.abspath(args.meta) if args.meta else '', **share)
    config = complete_loader(load_config(resolve_config(args.data_cfg)), 'train').get('dataset')
    if not config or 'type' not in config:
        raise ConfigError(f'{args.data_cfg} has no train_dataloader with a dataset')
    kind = find_component(config['type'], 'train_dataloader.dataset.type')
    if not (isinstance(kind, type) and issubclass(kind, ClassImageDataset)):
        raise ConfigError(f'{args.data_cfg}: a {config["type"]} cannot be packed, it is no ClassImageDataset')
    return DATASETS.build(dict(config, pipeline=[], **share))


def main() -> None:
    args = parse_args()
    recipe = pack_dataset(load_dataset(args), args.out, args.size, args.layout, args.interpolation, args.workers)
    size = sum(note['bytes'] for note in recipe.files.values())
    print(f'{args.out!r}: {recipe.num_images} images, {len(recipe.classes)} classes, {size / 1e9:.2f} GB')
    if recipe.skipped:
        print(f'{len(recipe.skipped)} images cannot be read and are not in it; {RECIPE} lists them')
    print(f"in a config: dataset=dict(type='PackedImages', data_root={args.out!r}, pipeline=[dict(type='PackInputs')])")


if __name__ == '__main__':
    run_tool(main)
