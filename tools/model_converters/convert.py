#!/usr/bin/env python
"""Converts a SAGAN or SNGAN of another project to a checkpoint of ours, or any checkpoint to StudioGAN's files.

IN is recognized by its content. Of StudioGAN (both generations of its format), give the generator's file; the others are found
beside it. Width, classes, size and attention are read from the tensors. The tool prints what it found and assumed, and the
command that samples the result.

Every tool that takes a checkpoint also takes these formats as they are; convert a file to keep the result.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmsagan.cli.tool import at_least, run_tool, tool_parser

if TYPE_CHECKING:
    from mmsagan.checkpoints.convert import Conversion


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'model=G-best-weights-step=100000.pth --out sagan.pth',
        'sagan_32_woReLUinplace_cifar10.pth --out sagan.safetensors',
        'work_dirs/sagan/iter_500000.pth --to studiogan --out studiogan --dist-step 5',
    )
    parser.add_argument('checkpoint', metavar='IN', help='file to read')
    parser.add_argument('--to', choices=['mmsagan', 'studiogan'], default='mmsagan', help='default: %(default)s')
    parser.add_argument('--out', required=True, help='.pth or .safetensors file to write; with --to studiogan, a folder')
    studiogan = parser.add_argument_group('from StudioGAN, if the files cannot be found by their names')
    studiogan.add_argument('--discriminator', metavar='D.pth', help='model=D-best-weights-step=….pth')
    studiogan.add_argument('--generator-ema', metavar='G_ema.pth', help='model=G_ema-best-weights-step=….pth')
    openmmlab = parser.add_argument_group('from MMGeneration and MMagic, what the tensors do not show')
    openmmlab.add_argument(
        '--channel-order',
        choices=['bgr', 'rgb'],
        help='of the training images; default: rgb if the file name contains convert-studio-rgb, else bgr',
    )
    openmmlab.add_argument(
        '--inplace-relu',
        choices=['yes', 'no'],
        help='whether activations worked in place; default: what the name of the file or its folder says, else no',
    )
    export = parser.add_argument_group('to StudioGAN')
    export.add_argument('--which', choices=['best', 'current'], help='part of the file names (default: best)')
    export.add_argument(
        '--dist-step',
        type=at_least(1),
        metavar='N',
        help='updates of D per update of G, for the step in the file names (default: 1)',
    )
    args = parser.parse_args()
    sources, targets = ('discriminator', 'generator_ema', 'channel_order', 'inplace_relu'), ('which', 'dist_step')
    for option in sources if args.to == 'studiogan' else targets:
        if getattr(args, option) is not None:
            parser.error(f'--{option.replace("_", "-")} does not go with --to {args.to}')
    return args


def main(args: argparse.Namespace) -> None:
    import yaml
    from mmengine.config import Config

    from mmsagan.checkpoints.architecture import get_cfg_options
    from mmsagan.checkpoints.convert import convert_checkpoint, export_studiogan

    if args.to == 'studiogan':
        files, settings, notes = export_studiogan(args.checkpoint, args.out, args.which or 'best', args.dist_step or 1)
        print('\n'.join([*(f'written to {file}' for file in files), *(f'note: {note}' for note in notes)]))
        print('note: optimizers are not converted; StudioGAN can sample, evaluate and fine-tune from these files, not resume')
        print("StudioGAN's config needs:\n" + yaml.safe_dump(settings, sort_keys=False, default_flow_style=None).rstrip())
        return
    inplace = {'yes': True, 'no': False, None: None}[args.inplace_relu]
    conversion = convert_checkpoint(
        args.checkpoint, args.out, args.discriminator, args.generator_ema, args.channel_order, inplace
    )
    print(report(conversion))
    config = nearest_config(conversion)
    options = get_cfg_options(conversion.model, Config.fromfile(config).model)
    arguments = ['--cfg-options', *(f'{key}={value!r}'.replace(' ', '') for key, value in options.items())] if options else []
    name = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config.stem
    command = ['mmsagan', 'sample', str(name), args.out, '--out', 'samples.png', *arguments]
    print(f'written to {args.out}\nsample it: {shlex.join(command)}')


def report(conversion: Conversion) -> str:
    """Says what was found, dropped and assumed."""
    model = conversion.model
    lines = [
        f'found: {conversion.format}',
        f'  {model["generator"]["output_scale"]} pixels, {model["num_classes"]} classes, '
        f'noise of length {model["generator"]["noise_size"]}',
    ]
    for network in ('generator', 'discriminator'):
        if not any(key.startswith(f'{network}.') for key in conversion.state_dict):
            continue
        arguments = model[network]
        attention = f'attention after block {arguments["attention_after_nth_block"]}'
        lines.append(
            f'  {network}: base_channels={arguments["base_channels"]}, channels_cfg={arguments["channels_cfg"]}, '
            f'{attention if arguments["attention_cfg"] else "no attention"}, '
            f'{"spectral norm" if arguments["with_spectral_norm"] else "no spectral norm"}'
        )
    if model['ema_config']:
        lines.append('  moving average of the generator')
    lines.append('  ' + ', '.join(f'{key}={value}' for key, value in asdict(conversion.settings).items()))
    lines += [f'dropped: {key}' for key in conversion.dropped]
    lines += [f'note: {note}' for note in conversion.notes]
    return '\n'.join(lines)


def nearest_config(conversion: Conversion) -> Path:
    """Returns the config of ours that is nearest to a converted model."""
    from mmsagan.apis.zoo import resolve_config

    if conversion.settings.init == 'BigGAN':
        return resolve_config('sagan_128_woReLUinplace_noaug_bigGAN_imagenet1k_b32x8')
    names = ('sagan_128_woReLUinplace_imagenet1k_b64x4', 'sagan_128_cvt_studioGAN')
    if conversion.model['generator']['output_scale'] == 32:
        names = ('sagan_32_woReLUinplace_cifar10_b64x1', 'sagan_32_cvt_studioGAN')
    return resolve_config(names[conversion.settings.inplace])


if __name__ == '__main__':
    run_tool(main, parse_args)
