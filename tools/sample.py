#!/usr/bin/env python
"""Samples a checkpoint: writes a grid, a folder of PNG files with a subfolder per class, or one .npz file.

Sample i depends on the seed and i alone, not on the number of processes.
"""

import argparse
from pathlib import Path

from mmsagan.cli.tool import add_labels, add_launcher, add_model, add_sampling, at_least, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out digits.png',
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out samples --num-samples 10000 --npz',
    )
    add_model(parser)
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='.png file for a grid with one row per class, which is overwritten; or a new or empty folder for '
        '<label>_<name>/<number>.png (unconditional: <number>.png)',
    )
    parser.add_argument(
        '--npz',
        action='store_true',
        help='write samples.npz into the folder instead of PNG files, overwriting an older one: images arr_0 (N, H, W, 3) and '
        'classes arr_1 (N,)',
    )
    add_labels(parser, 'all classes')
    parser.add_argument('--num-per-class', type=at_least(1), metavar='N', help='samples per class (default: 8)')
    parser.add_argument(
        '--num-samples',
        type=at_least(1),
        metavar='N',
        help='instead of --labels and --num-per-class: N samples of classes drawn uniformly, with the same seed the ones '
        'that tools/test.py scores; the only choice for an unconditional model (default: 64)',
    )
    add_sampling(parser)
    parser.add_argument('--batch-size', type=at_least(1), default=64, metavar='N', help='per process (default: %(default)s)')
    parser.add_argument('--amp', action='store_true', help='compute in bfloat16: faster, with slightly different images')
    add_launcher(parser, 'tools/dist_sample.sh')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmengine.dist import is_main_process

    from mmsagan.apis.inference import init_model
    from mmsagan.apis.sampling import SampleSet, check_output, class_names, parse_classes, write_samples
    from mmsagan.apis.zoo import resolve_config
    from mmsagan.engine.config import load_config
    from mmsagan.engine.distributed import find_device, join_processes
    from mmsagan.utils.processes import from_main_process

    check_output(args.out, args.npz)
    join_processes(args.launcher, load_config(resolve_config(args.config), args.cfg_options))
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    options = dict(sample_model=args.sample_model, truncation=args.truncation)

    def choose() -> tuple[list[str], list[int] | None]:
        # Names are looked up where they are wanted: finding a million images takes a while.
        names = class_names(model.cfg, model.num_classes) if args.labels is not None or model.num_classes <= 100 else []
        return names, parse_classes(args.labels, names) if args.labels is not None else None

    names, labels = from_main_process(choose)  # other nodes may not have the data
    samples = SampleSet(model, labels, args.num_per_class, args.num_samples, args.seed, args.batch_size, args.amp, **options)
    samples.names = names
    written = write_samples(samples, args.out, args.npz)
    if is_main_process():
        drawn = [] if samples.labels is None or not names else samples.labels.unique_consecutive().tolist()
        if args.num_samples is None and any(names[label] != str(label) for label in drawn):
            print(f'classes: {", ".join(f"{label} is {names[label]!r}" for label in drawn)}')
        print(written)


if __name__ == '__main__':
    run_tool(main, parse_args)
