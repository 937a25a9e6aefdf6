#!/usr/bin/env python
"""Converts the SAGAN or SNGAN of a StudioGAN run, of any width, size and number of classes, to a checkpoint of ours."""

import argparse

from mmsagan.apis.cli import run_tool, tool_parser
from mmsagan.apis.conversion import conversion_summary
from mmsagan.checkpoints.convert import convert_studiogan


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, '--generator model=G-best-weights-step=100000.pth --out sagan.pth')
    parser.add_argument('--generator', required=True, metavar='G.pth', help='model=G-best-weights-step=….pth')
    parser.add_argument('--discriminator', metavar='D.pth', help='model=D-best-weights-step=….pth')
    parser.add_argument('--generator-ema', metavar='G_ema.pth', help='model=G_ema-best-weights-step=….pth')
    parser.add_argument('--out', required=True, metavar='OUT.pth', help='the file to write; .safetensors is possible, too')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    conversion = convert_studiogan(args.generator, args.out, args.discriminator, args.generator_ema)
    print(conversion_summary(conversion, args.out))


if __name__ == '__main__':
    run_tool(main)
