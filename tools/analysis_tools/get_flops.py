#!/usr/bin/env python
"""Counts parameters and FLOPs of a config's networks by layer, and the FLOPs of a step of its training.

Counted are the multiply-adds of convolutions, linear layers, attention and spectral norms, 2 FLOPs each; what works element by
element (activations, norms, pooling, the optimizer) is not. 'plain' is the function as it is defined, by which models are
compared; 'fast' is the same function with the resampling merged into the convolutions (model.fast=True), less work for the same
result. A machine's speed is judged by what it really does, which is 'as configured'. Nothing is computed, so any size can be
counted anywhere.
"""

import argparse
from collections.abc import Mapping, Sequence

from mmengine.config import Config

from mmsagan.analysis.flops import LayerFlops, layer_flops, training_flops
from mmsagan.analysis.tables import text_table
from mmsagan.apis.zoo import resolve_config
from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_128_woReLUinplace_imagenet1k_b64x4 --depth 1')
    parser.add_argument('config', help='config file, or the name of one of this package')
    add_cfg_options(parser)
    parser.add_argument(
        '--depth',
        type=at_least(0),
        default=2,
        metavar='N',
        help='0: the networks only; 1: their blocks, too; 2: the layers of these, and so on (default: %(default)s)',
    )
    parser.add_argument(
        '--batch-size',
        type=at_least(1),
        metavar='N',
        help="images at a time (default: 1 for the layers, and the config's train_dataloader.batch_size for the training)",
    )
    return parser.parse_args()


def layer_table(rows: Sequence[LayerFlops], depth: int) -> str:
    """The table of a network, down to a depth."""
    cells = [
        (
            '  ' * row.depth + (row.name or 'all'),
            row.type,
            f'{row.parameters:,}',
            mega(row.plain),
            mega(row.fast),
            'x'.join(map(str, row.output_shape)),
        )
        for row in rows
        if row.depth <= depth
    ]
    return text_table(['layer', 'type', 'parameters', 'plain MFLOPs', 'fast MFLOPs', 'output'], cells, left=2)


def training_table(model: Mapping, batch_size: int) -> str:
    """Both updates of a training and their sum, and this by kind of operation."""
    forms = [training_flops(model, batch_size, fast) for fast in (False, True, None)]
    kinds = sorted({kind for form in forms for kind in form.step.by_kind})
    steps = [model.get(key, 1) for key in ('discriminator_steps', 'generator_steps')]
    lines = {
        'update of D': [form.discriminator.total for form in forms],
        'update of G': [form.generator.total for form in forms],
        'step: one update of each': [form.step.total for form in forms],
        **{f'  {kind}': [form.step.by_kind[kind] for form in forms] for kind in kinds},
        'iteration of the config, on average': [form.iteration(*steps) for form in forms],
    }
    return text_table(
        [f'training, batch of {batch_size}', 'plain GFLOPs', 'fast GFLOPs', 'as configured'],
        [[name, *(f'{flops / 1e9:,.3f}' for flops in line)] for name, line in lines.items()],
    )


def mega(flops: int) -> str:
    """FLOPs in millions."""
    return f'{flops / 1e6:,.3f}'


def training_batch_size(cfg: Config) -> int:
    """The batch size that a config trains with.

    Raises:
        ConfigError: It does not say.
    """
    size = (cfg.get('train_dataloader') or {}).get('batch_size')
    if size is None:
        raise ConfigError('the config has no train_dataloader.batch_size; give --batch-size')
    return size


def main() -> None:
    args = parse_args()
    cfg = load_config(resolve_config(args.config), args.cfg_options)
    if not cfg.get('model'):
        raise ConfigError('the config has no model')
    training_size = args.batch_size or training_batch_size(cfg)
    batch_size = args.batch_size or 1
    for network, rows in layer_flops(cfg.model, batch_size).items():
        print(f'{network}, forward in training mode, batch of {batch_size}')
        print(layer_table(rows, args.depth), end='\n\n')
    print(training_table(cfg.model, training_size))


if __name__ == '__main__':
    run_tool(main)
