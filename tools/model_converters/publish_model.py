#!/usr/bin/env python
"""Removes what only training needs from a checkpoint, and puts its hash into its name."""

import argparse

from mmsagan.checkpoints.publish import publish
from mmsagan.cli.tool import run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'work_dirs/digits/iter_2500.pth digits.pth --weights ema --no-discriminator')
    parser.add_argument('checkpoint', metavar='IN.pth', help='file to read')
    parser.add_argument('out', metavar='OUT', help='.pth or .safetensors file to write; the hash is added to its name')
    parser.add_argument(
        '--weights',
        choices=['both', 'ema'],
        default='both',
        help='both: the generator and its moving average; ema: only the average, as the generator (default: %(default)s)',
    )
    parser.add_argument('--no-discriminator', action='store_true', help='leave out D, which only fine-tuning needs')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    path, dropped = publish(args.checkpoint, args.out, args.weights, not args.no_discriminator)
    print(f'written to {path} ({path.stat().st_size / 2**20:.1f} MiB)')
    if dropped:
        print(f'left out: {", ".join(dropped)}')


if __name__ == '__main__':
    run_tool(main)
