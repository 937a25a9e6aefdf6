#!/usr/bin/env python
"""Counts parameters and FLOPs of a config's networks by layer, and the FLOPs of a training step.

A multiply-add of convolutions, linear layers, attention and spectral norms is 2 FLOPs; element-wise operations are not counted.
'plain' is the function as it is defined, by which models are compared; 'fast' is the same function with resampling merged into
the convolutions (model.fast=True). The networks run on fake tensors, so that any size can be counted on any machine.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_128_woReLUinplace_imagenet1k_b64x4 --depth 1')
    parser.add_argument('config', help='config file, or the name of one of this package')
    add_cfg_options(parser)
    parser.add_argument('--depth', type=at_least(0), default=2, metavar='N', help='levels of layers (default: %(default)s)')
    help = "images at a time (default: 1 for the layers, the config's train_dataloader.batch_size for training)"
    parser.add_argument('--batch-size', type=at_least(1), metavar='N', help=help)
    return parser.parse_args()


def print_table(rows: Sequence[Sequence[str]], left: int) -> None:
    """Prints aligned columns, the first ``left`` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print('  '.join(f'{cell:{"<" if i < left else ">"}{widths[i]}}' for i, cell in enumerate(row)))
    print()


def main(args: argparse.Namespace) -> None:
    from torch import nn

    from mmsagan.apis.zoo import resolve_config
    from mmsagan.engine.config import load_config

    sys.path.insert(0, str(Path(__file__).parent.parent / 'misc'))
    from flop_counts import build_gan, count_forward, count_updates

    cfg = load_config(resolve_config(args.config), args.cfg_options)
    batch_size = args.batch_size or (cfg.get('train_dataloader') or {}).get('batch_size')
    if not cfg.get('model') or not batch_size:
        raise ConfigError('the config has no model, or no train_dataloader.batch_size and there is no --batch-size')
    gans = [build_gan(cfg.model, fast) for fast in (False, True)]
    for network in ('generator', 'discriminator'):
        rows = [['layer', 'type', 'parameters', 'plain MFLOPs', 'fast MFLOPs']]
        plain, fast = (count_forward(gan, network, args.batch_size or 1) for gan in gans)
        for name, module in getattr(gans[0], network).named_modules():
            depth = sum(not part.isdigit() for part in name.split('.') if part)
            parameters = sum(parameter.numel() for parameter in module.parameters())
            if depth <= args.depth and not isinstance(module, nn.ModuleList) and (parameters or name in plain):
                flops = [f'{counts.get(name, 0) / 1e6:,.3f}' for counts in (plain, fast)]
                rows.append(['  ' * depth + (name or 'all'), type(module).__name__, f'{parameters:,}', *flops])
        print(f'{network}, forward in training mode, batch of {args.batch_size or 1}')
        print_table(rows, left=2)
    of_disc, of_gen = zip(*(count_updates(gan, batch_size) for gan in gans))
    of_step = [disc + gen for disc, gen in zip(of_disc, of_gen)]
    totals = {'update of D': of_disc, 'update of G': of_gen, 'step: one update of each': of_step}
    lines = {name: [counts.total() for counts in line] for name, line in totals.items()}
    lines.update({f'  {op}': [step[op] for step in of_step] for op in sorted({*of_step[0], *of_step[1]}, key=str)})
    rows = [[name, *(f'{flops / 1e9:,.3f}' for flops in line)] for name, line in lines.items()]
    print_table([[f'training, batch of {batch_size}', 'plain GFLOPs', 'fast GFLOPs'], *rows], left=1)


if __name__ == '__main__':
    run_tool(main, parse_args)
