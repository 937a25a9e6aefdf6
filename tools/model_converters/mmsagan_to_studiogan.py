#!/usr/bin/env python
"""Writes a checkpoint as files of StudioGAN's current format, and prints the settings that its config needs."""

import argparse

from mmsagan.apis.cli import at_least, run_tool, tool_parser
from mmsagan.apis.conversion import export_summary
from mmsagan.checkpoints.convert import export_studiogan


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'iter_500000.pth --out-dir studiogan --dist-step 5')
    parser.add_argument('checkpoint', metavar='IN.pth', help='the file to read')
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='folder for the files')
    parser.add_argument(
        '--which', choices=['best', 'current'], default='best', help="a part of the files' names (default: best)"
    )
    parser.add_argument(
        '--dist-step',
        type=at_least(1),
        default=1,
        metavar='N',
        help="updates of D for one of G in the training, for the files' step (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(export_summary(*export_studiogan(args.checkpoint, args.out_dir, args.which, args.dist_step)))


if __name__ == '__main__':
    run_tool(main)
