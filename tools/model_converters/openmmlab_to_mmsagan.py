#!/usr/bin/env python
"""Converts a SAGAN or SNGAN of MMGeneration or MMagic to a checkpoint of ours; networks of BGR images become ones of RGB."""

import argparse

from mmsagan.apis.cli import run_tool, tool_parser
from mmsagan.apis.conversion import conversion_summary
from mmsagan.checkpoints.convert import convert_openmmlab


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_woReLUinplace_cifar10.pth --out sagan.pth')
    parser.add_argument('checkpoint', metavar='IN.pth', help='the file to read')
    parser.add_argument('--out', required=True, metavar='OUT.pth', help='the file to write; .safetensors is possible, too')
    parser.add_argument(
        '--channel-order',
        choices=['bgr', 'rgb'],
        help='of the images that the networks know; default: rgb if the name says convert-studio-rgb, else bgr',
    )
    parser.add_argument(
        '--inplace-relu',
        choices=['yes', 'no'],
        help='whether activations worked in place; default: what the name of the file or its folder says, else no',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    inplace = {'yes': True, 'no': False, None: None}[args.inplace_relu]
    conversion = convert_openmmlab(args.checkpoint, args.out, args.channel_order, inplace)
    print(conversion_summary(conversion, args.out))


if __name__ == '__main__':
    run_tool(main)
