#!/usr/bin/env python
"""Reads every image of a data set, and reports what is wrong with it.

SOURCE is a config, whose training data set is read, or a folder with one folder of images a class. Reported are images that
cannot be read, classes without images, images that are there more than once, and images smaller than the networks'. The exit
code is 0 if there is nothing of the kind, 1 if there is, and 2 if the data set cannot be read at all.
"""

import argparse
from pathlib import Path

from mmsagan.apis.data_check import check_data
from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.utils.workers import available_cores


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'data/mine --size 128',
        'sagan_128_woReLUinplace_imagenet1k_b64x4',
    )
    parser.add_argument('source', metavar='SOURCE', help='a config, by its file or its name, or e.g. data/imagenet/train')
    parser.add_argument('--size', type=at_least(1), metavar='PIXELS', help="of the networks' images; default: the config's")
    parser.add_argument(
        '--workers', type=at_least(1), default=available_cores(), metavar='N', help='processes (default: one a core)'
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    if Path(args.source).is_dir() and args.cfg_options:
        parser.error('--cfg-options goes with a config')
    return args


def main() -> int:
    args = parse_args()
    report = check_data(args.source, args.size, args.cfg_options, args.workers)
    findings = report.findings()
    print('\n'.join([*report.summary(), *(findings or ['nothing is wrong with it'])]))
    return 1 if findings else 0


if __name__ == '__main__':
    run_tool(main)
