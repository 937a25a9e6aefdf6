#!/usr/bin/env python
"""Trains with many evaluations, checkpoints and pictures in between, and tells whether memory or file handles grow.

Exits with 1 if they do.
"""

import argparse
from pathlib import Path

from mmsagan.analysis.soak import ResourceHook, growth, growth_table
from mmsagan.apis.cli import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.apis.train import train_from_config
from mmsagan.apis.zoo import resolve_config
from mmsagan.engine.config import load_config


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b64x1 --work-dir work_dirs/soak')
    parser.add_argument('config', help='config file, or the name of one of this package')
    parser.add_argument('--work-dir', type=Path, required=True, metavar='DIR', help='where checkpoints, samples and logs go')
    parser.add_argument('--iterations', type=at_least(1000), default=3000, metavar='N', help='default: %(default)s')
    parser.add_argument(
        '--interval', type=at_least(10), default=100, metavar='N', help='between evaluations, checkpoints and pictures'
    )
    parser.add_argument(
        '--max-growth', type=float, default=10.0, metavar='MB', help='in 1000 iterations (default: %(default)s)'
    )
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    cfg = load_config(resolve_config(args.config), args.cfg_options)
    cfg.update(work_dir=str(args.work_dir), launcher='none')
    cfg.train_cfg.update(max_iters=args.iterations, val_interval=args.interval)
    cfg.default_hooks.checkpoint.update(interval=args.interval, max_keep_ckpts=2)
    for hook in cfg.get('custom_hooks') or []:
        if 'interval' in hook:
            hook.interval = args.interval
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='ResourceHook', interval=max(args.interval // 10, 1))]
    runner = train_from_config(cfg)
    notes = next(hook.notes for hook in runner.hooks if isinstance(hook, ResourceHook))
    found = growth(notes)
    print(f'\n{args.iterations} iterations, evaluation, checkpoint and pictures every {args.interval}\n{growth_table(found)}')
    grows = [each.name for each in found if each.slope > (args.max_growth if each.name.endswith('_mb') else 1)]
    print(f'growing: {", ".join(grows)}' if grows else 'nothing grows')
    return int(bool(grows))


if __name__ == '__main__':
    run_tool(main)
