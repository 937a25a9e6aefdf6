#!/usr/bin/env python
"""Makes samples from a checkpoint: a grid, a folder of PNGs with one folder a class, or one .npz file.

Sample number i depends on the seed and i alone, and not on the number of processes.
"""

import argparse
from pathlib import Path

from mmengine.dist import is_main_process

from mmsagan.apis.inference import init_model
from mmsagan.apis.processes import find_device, join_processes, watch_processes
from mmsagan.apis.sample_files import check_output, write_samples
from mmsagan.apis.sample_set import parse_classes, plan_samples
from mmsagan.apis.zoo import resolve_config
from mmsagan.cli.tool import add_launcher, add_sampling, at_least, run_tool, tool_parser
from mmsagan.engine.config import load_config


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b64x1 work_dirs/digits/iter_900.pth --out digits.png',
        'sagan_32_mnist_b64x1 work_dirs/digits/iter_900.pth --out samples --num-samples 10000 --npz',
    )
    parser.add_argument('config', help='config file, or the name of one of this package')
    parser.add_argument(
        'checkpoint', help="file or URL, also of MMGeneration, MMagic or StudioGAN; 'zoo' for the config's published weights"
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='a .png file for a grid, one row a class, which replaces a file of that name; or a folder, new or empty, for '
        '<class>/<number>.png, of an unconditional model <number>.png',
    )
    parser.add_argument(
        '--npz',
        action='store_true',
        help='write samples.npz into the folder, in the place of PNGs and of an older file of that name: arr_0 are the images '
        '(N, H, W, 3), arr_1 the classes (N,)',
    )
    parser.add_argument('--labels', type=parse_classes, metavar='CLASSES', help='e.g. 0-9 or 1,5,7-9; default: all classes')
    parser.add_argument('--num-per-class', type=at_least(1), metavar='N', help='samples of each class (default: 8)')
    parser.add_argument(
        '--num-samples',
        type=at_least(1),
        metavar='N',
        help='in the place of --labels and --num-per-class: N samples of classes drawn uniformly, with equal seeds those that '
        'tools/test.py scores. For an unconditional model the only choice (default: 64)',
    )
    add_sampling(parser)
    parser.add_argument(
        '--batch-size', type=at_least(1), default=64, metavar='N', help='of each process (default: %(default)s)'
    )
    parser.add_argument('--amp', action='store_true', help='compute in bfloat16: faster, images differ slightly')
    add_launcher(parser, 'tools/dist_sample.sh')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    watch_processes(args.launcher)
    check_output(args.out, args.npz)
    join_processes(args.launcher, load_config(resolve_config(args.config), args.cfg_options))
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    samples = plan_samples(
        model,
        args.labels,
        args.num_per_class,
        args.num_samples,
        args.seed,
        sample_model=args.sample_model,
        truncation=args.truncation,
        batch_size=args.batch_size,
        amp=args.amp,
    )
    written = write_samples(samples, args.out, args.npz)
    if is_main_process():
        print(written)


if __name__ == '__main__':
    run_tool(main)
