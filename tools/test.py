#!/usr/bin/env python
"""Evaluates a checkpoint: IS, FID and whatever else the config's test_evaluator asks for, in one pass."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mmsagan.cli.tool import (
    add_cfg_options,
    add_extractor,
    add_launcher,
    add_model,
    at_least,
    extractor_options,
    run_tool,
    tool_parser,
)
from mmsagan.errors import ConfigError

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out scores.json',
        'sagan_32_woReLUinplace_cifar10_b64x1 zoo --cfg-options test_evaluator.metrics.0.fake_nums=5000',
        'sagan_32_woReLUinplace_cifar10_b64x1 zoo --extractor vgg16',
    )
    add_model(parser)
    parser.add_argument('--out', metavar='FILE', help='write the results to this .json file')
    parser.add_argument(
        '--seeds', type=at_least(1), metavar='N', help='score N sets of samples, and give mean and standard deviation'
    )
    parser.add_argument(
        '--truncation',
        type=float,
        nargs='+',
        metavar='X',
        help='largest magnitude of a noise component; several are scored one after another',
    )
    parser.add_argument('--figure', metavar='FILE', help='draw FID over IS at several truncations into this .png file')
    add_extractor(parser)
    parser.add_argument('--work-dir', metavar='DIR', help='where the log goes; default: work_dirs/<config name>/evaluation')
    add_cfg_options(parser, 'change config values, e.g. test_dataloader.batch_size=100 test_evaluator.metrics.0.fake_nums=5000')
    add_launcher(parser, 'tools/dist_test.sh')
    return parser.parse_args()


def set_extractor(cfg: Config, options: dict) -> None:
    """Gives the config's metrics another extractor, if it has the output that they use.

    The name of another extractor is added to a metric's own ``prefix``, and its own ``inception_pkl`` is not used.
    """
    from mmsagan.engine.loops import evaluator_config
    from mmsagan.evaluation.extractors import FeatureSource
    from mmsagan.registry import METRICS

    metrics = evaluator_config(cfg.get('test_evaluator') or cfg.get('val_evaluator') or [])['metrics']
    replaced = {'extractor', 'inception_style', 'inception_path', 'resize_mode'}
    if not {'extractor', 'inception_style'} & {*options}:
        replaced = {*options}
    for metric in [metrics] if isinstance(metrics, dict) else metrics:
        kind = METRICS.get(metric.get('type', ''))
        changed = {name: value for name, value in metric.items() if name not in replaced} | options
        before, after = (
            FeatureSource.from_config(
                each.get('extractor'),
                each.get('inception_style') or getattr(kind, 'default_style', 'StyleGAN'),
                each.get('inception_path'),
                each.get('resize_mode'),
            )
            for each in (metric, changed)
        )
        if getattr(kind, 'output', None) in after.kind.output_names:
            if before.name != after.name and changed.get('prefix'):
                changed['prefix'] += after.suffix or '-inception'
            if before != after:
                changed.pop('inception_pkl', None)
            metric.clear()
            metric.update(changed)


def main(args: argparse.Namespace) -> None:
    from mmengine.dist import is_main_process

    from mmsagan.apis.experiment import evaluate_from_config, results_table
    from mmsagan.apis.zoo import resolve_config, resolve_model
    from mmsagan.engine.config import load_config
    from mmsagan.utils.files import check_writable, write_output
    from mmsagan.visualization.curves import tradeoff_figure
    from mmsagan.visualization.figures import to_bytes

    for file, suffixes in ((args.out, ()), (args.figure, ('.png',))):
        if file:
            check_writable(file, suffixes)
    if args.figure and len(args.truncation or ()) < 2:
        raise ConfigError('--figure needs several values of --truncation')
    options = dict(num_seeds=args.seeds) if args.seeds else {}
    if args.truncation:
        options['truncation'] = args.truncation if len(args.truncation) > 1 else args.truncation[0]
    config = resolve_config(args.config)
    checkpoint = resolve_model(args.config).weights if args.checkpoint == 'zoo' else args.checkpoint
    cfg = load_config(config, args.cfg_options)
    cfg.launcher = args.launcher
    if extractor_options(args):
        set_extractor(cfg, extractor_options(args))
    cfg.work_dir = args.work_dir or str(Path('work_dirs') / config.stem / 'evaluation')
    results = evaluate_from_config(cfg, checkpoint, **options)
    if is_main_process():
        print(results_table(results))
        if args.out:
            write_output(args.out, json.dumps(results, indent=2).encode())
            print(f'written to {args.out}')
        if args.figure:
            write_output(args.figure, to_bytes(tradeoff_figure(results), 'png'))
            print(f'written to {args.figure}')


if __name__ == '__main__':
    run_tool(main, parse_args)
