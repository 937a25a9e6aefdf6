#!/usr/bin/env python
"""Converts a SAGAN or SNGAN of another project to a checkpoint of ours, or any checkpoint to StudioGAN's files.

IN is recognized by its content: of StudioGAN (both generations of its format) the generator's file, beside which the others are
found by their names; of MMGeneration or MMagic the one file. Width, classes, size and attention are read off the tensors. The
tool says what it found and assumed, and which command samples the result.

Every tool that takes a checkpoint takes all these formats as they are; this one is for keeping the result.
"""

import argparse

from mmsagan.apis.conversion import conversion_summary, export_summary
from mmsagan.checkpoints.convert import convert_checkpoint, export_studiogan
from mmsagan.cli.tool import at_least, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'model=G-best-weights-step=100000.pth --out sagan.pth',
        'sagan_32_woReLUinplace_cifar10.pth --out sagan.safetensors',
        'work_dirs/sagan/iter_500000.pth --to studiogan --out studiogan --dist-step 5',
    )
    parser.add_argument('checkpoint', metavar='IN', help='the file to read')
    parser.add_argument('--to', choices=['mmsagan', 'studiogan'], default='mmsagan', help='default: %(default)s')
    parser.add_argument('--out', required=True, help='the .pth or .safetensors file to write; with --to studiogan, a folder')
    studiogan = parser.add_argument_group('from StudioGAN, where the files are not found by their names')
    studiogan.add_argument('--discriminator', metavar='D.pth', help='model=D-best-weights-step=….pth')
    studiogan.add_argument('--generator-ema', metavar='G_ema.pth', help='model=G_ema-best-weights-step=….pth')
    openmmlab = parser.add_argument_group('from MMGeneration and MMagic, whose tensors do not show it')
    openmmlab.add_argument(
        '--channel-order',
        choices=['bgr', 'rgb'],
        help='of the images that the networks know; default: rgb if the name says convert-studio-rgb, else bgr',
    )
    openmmlab.add_argument(
        '--inplace-relu',
        choices=['yes', 'no'],
        help='whether activations worked in place; default: what the name of the file or its folder says, else no',
    )
    export = parser.add_argument_group('to StudioGAN')
    export.add_argument('--which', choices=['best', 'current'], help="a part of the files' names (default: best)")
    export.add_argument(
        '--dist-step', type=at_least(1), metavar='N', help="updates of D for one of G, for the files' step (default: 1)"
    )
    args = parser.parse_args()
    sources, targets = ('discriminator', 'generator_ema', 'channel_order', 'inplace_relu'), ('which', 'dist_step')
    for option in sources if args.to == 'studiogan' else targets:
        if getattr(args, option) is not None:
            parser.error(f'--{option.replace("_", "-")} does not go with --to {args.to}')
    return args


def main() -> None:
    args = parse_args()
    if args.to == 'studiogan':
        print(export_summary(*export_studiogan(args.checkpoint, args.out, args.which or 'best', args.dist_step or 1)))
        return
    inplace = {'yes': True, 'no': False, None: None}[args.inplace_relu]
    conversion = convert_checkpoint(
        args.checkpoint, args.out, args.discriminator, args.generator_ema, args.channel_order, inplace
    )
    print(conversion_summary(conversion, args.out))


if __name__ == '__main__':
    run_tool(main)
