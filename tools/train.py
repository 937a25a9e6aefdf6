#!/usr/bin/env python
"""Trains the experiment that a config describes.

Checkpoints, sample grids, scores and logs go to the work dir. Ctrl-C and SIGTERM end the training after the current iteration,
with a checkpoint and exit code 75; --resume continues from there, bit for bit.
"""

import argparse
from pathlib import Path

from mmsagan.cli.tool import add_cfg_options, add_launcher, run_tool, tool_parser
from mmsagan.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 --work-dir work_dirs/digits',
        'sagan_32_mnist_b32x1 --work-dir work_dirs/digits --resume --cfg-options train_cfg.max_iters=1800',
    )
    parser.add_argument('config', help='config file, or the name of one of this package')
    parser.add_argument(
        '--work-dir', metavar='DIR', help='where checkpoints, samples and logs go; default: work_dirs/<config name>'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='FILE',
        help='resume from a checkpoint; without a value, from the newest one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16, or float16 on GPUs without it')
    parser.add_argument(
        '--tf32',
        choices=['on', 'off'],
        help="whether GPUs may round float32 factors to TF32; default: PyTorch's, in convolutions only",
    )
    parser.add_argument('--no-validate', action='store_true', help='train without evaluations')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rates with the total batch size')
    add_cfg_options(parser, 'change config values, e.g. train_cfg.max_iters=1000 model.generator.base_channels=32')
    add_launcher(parser, 'tools/dist_train.sh and slurm_train.sh')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from mmengine.dist import is_main_process

    from mmsagan.apis.experiment import train_from_config, training_summary, use_mixed_precision
    from mmsagan.apis.zoo import resolve_config
    from mmsagan.engine.config import load_config

    config = resolve_config(args.config)
    cfg = load_config(config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / config.stem)
    if args.resume == 'auto':
        cfg.resume = 'auto'
    elif args.resume:
        cfg.update(resume=True, load_from=args.resume)
    if args.amp:
        use_mixed_precision(cfg)
    if args.tf32:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32 == 'on'
    if args.no_validate:
        cfg.val_evaluator = None
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N): the batch size of the rates')
        cfg.auto_scale_lr.enable = True
    runner = train_from_config(cfg)
    if is_main_process():
        print(training_summary(runner))


if __name__ == '__main__':
    run_tool(main, parse_args)
