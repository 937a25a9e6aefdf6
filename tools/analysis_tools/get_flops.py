#!/usr/bin/env python
"""Counts parameters and FLOPs of a config's networks by layer, and the FLOPs of a training step.

A multiply-add of convolutions, linear layers, attention and spectral norms is 2 FLOPs; element-wise operations are not counted.
'plain' is the function as it is defined, by which models are compared; 'fast' is the same function with resampling merged into
the convolutions (model.fast=True). The networks run on fake tensors, so that any size can be counted on any machine.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mmsagan.apis.zoo import resolve_config
from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.engine.config import config_errors, load_config
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS

aten = torch.ops.aten
# Operators that PyTorch's counter has no formulas for: the products of spectral norms, and attention on CPUs.
FORMULAS = {
    aten.mv: lambda matrix, *_, **__: 2 * math.prod(matrix),
    aten.dot: lambda vector, *_, **__: 2 * math.prod(vector),
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
}


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_128_woReLUinplace_imagenet1k_b64x4 --depth 1')
    parser.add_argument('config', help='config file, or the name of one of this package')
    add_cfg_options(parser)
    parser.add_argument('--depth', type=at_least(0), default=2, metavar='N', help='levels of layers (default: %(default)s)')
    help = "images at a time (default: 1 for the layers, the config's train_dataloader.batch_size for training)"
    parser.add_argument('--batch-size', type=at_least(1), metavar='N', help=help)
    return parser.parse_args()


def count_flops(action: Callable[[], object]) -> FlopCounterMode:
    """Counts the FLOPs of an action on fake tensors. Modules that it trains keep fake gradients."""
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        action()
    return counter


def build_gan(model: Mapping, fast: bool) -> nn.Module:
    """Builds a config's GAN, without what is not counted."""
    with config_errors():
        return MODELS.build({**model, 'ema_config': None, 'compile_cfg': None, 'fast': fast}).train()


def count_forward(gan: nn.Module, network: str, batch_size: int) -> dict[str, int]:
    """FLOPs of each module of a network in a forward pass in training mode, by the module's name."""

    def forward() -> None:
        size = gan.generator.output_scale
        inputs = gan.draw_noise(batch_size) if network == 'generator' else torch.empty(batch_size, 3, size, size)
        with torch.no_grad():
            getattr(gan, network)(inputs, label=gan.draw_label(batch_size))

    counts = count_flops(forward).get_flop_counts()
    return {name.partition('.')[2]: sum(of.values()) for name, of in counts.items() if name != 'Global'}


def count_updates(gan: nn.Module, batch_size: int) -> list[Counter]:
    """FLOPs by operator of one update of D and of one update of G, forward and backward."""
    disc, gen = (OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.0)) for net in (gan.discriminator, gan.generator))

    def update_discriminator() -> None:
        images = torch.empty(batch_size, 3, *2 * [gan.generator.output_scale])
        gan.train_discriminator(images, torch.zeros(batch_size, dtype=torch.long), disc)

    updates = update_discriminator, lambda: gan.train_generator(batch_size, gen)
    return [Counter(count_flops(update).get_flop_counts()['Global']) for update in updates]


def print_table(rows: Sequence[Sequence[str]], left: int) -> None:
    """Prints aligned columns, the first ``left`` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print('  '.join(f'{cell:{"<" if i < left else ">"}{widths[i]}}' for i, cell in enumerate(row)))
    print()


def main(args: argparse.Namespace) -> None:
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
