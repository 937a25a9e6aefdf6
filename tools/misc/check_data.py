#!/usr/bin/env python
"""Reads every image of a data set and reports problems.

SOURCE is a config, whose training data set is read, or a folder with one folder of images per class. The report lists images
that cannot be read, classes without images, images that occur more than once, are smaller than those of the networks (without
--size: than usual) or nearly black, and what is left out.
The exit code is 0 without problems, 1 with problems, and 2 if the data set cannot be read at all.
"""

import argparse
import os
from pathlib import Path

from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'data/mine --size 128',
        'sagan_128_woReLUinplace_imagenet1k_b64x4',
    )
    parser.add_argument('source', metavar='SOURCE', help='a config, by its file or its name, or e.g. data/imagenet/train')
    parser.add_argument('--size', type=at_least(1), metavar='PIXELS', help="image size of the networks (default: the config's)")
    parser.add_argument(
        '--workers',
        type=at_least(1),
        default=os.cpu_count(),
        metavar='N',
        help='processes (default: one per core)',
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    if Path(args.source).is_dir() and args.cfg_options:
        parser.error('--cfg-options goes with a config')
    return args


def main(args: argparse.Namespace) -> int:
    from mmsagan.apis.experiment import build_training_dataset
    from mmsagan.datasets.check import check_dataset

    dataset, cfg = build_training_dataset(args.source, args.cfg_options, allow_empty_classes=True)
    model = cfg.get('model') or {}
    size = args.size or (model.get('generator') or {}).get('output_scale')
    summary, problems = check_dataset(dataset, size, model.get('num_classes'), args.workers)
    print('\n'.join([*summary, *(problems or ['no problems found'])]))
    return 1 if problems else 0


if __name__ == '__main__':
    run_tool(main, parse_args)
