#!/usr/bin/env python
"""Measures training steps, sampling, evaluation and the reading of data, each against the reference implementation.

Both sides take turns in one process. On a CPU, each turn of step and sample begins with what sets the process up for that side
and a call that is not timed. The table has medians with their interquartile ranges, how many times as long the reference takes
(ratio), how long the fast side's very first call took, and the peak memory of a call. GFLOP/s are those of the operations that
the fast side really does, 'of peak' is their share of the rate that products of large matrices reach on this device.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial

from mmsagan.analysis.benchmarks.data import NUM_IMAGES
from mmsagan.analysis.benchmarks.evaluation import EXTRACTORS
from mmsagan.analysis.benchmarks.evaluation import NUM_SAMPLES as EVALUATED
from mmsagan.analysis.benchmarks.sides import ALLOCATORS, CPU_BATCH_SIZE, LARGE_CPU_BATCH_SIZE, SMALL_IMAGES
from mmsagan.analysis.benchmarks.suite import AGAINST, DEFAULT_CONFIG, SUBJECTS, BenchmarkOptions, run_benchmarks
from mmsagan.analysis.hardware import PRECISIONS
from mmsagan.analysis.measuring import MIN_ROUNDS
from mmsagan.analysis.workloads import measurements_table, write_measurements
from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.utils.files import check_writable


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """An argument's type: one or more of these names, separated by commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(',')
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f'invalid choice {name!r} (choose from {", ".join(known)})')
        return chosen

    return names


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        '--what step,sample --precision bf16',
        '--what data --data-root data/imagenet/train --json data.json',
    )
    parser.add_argument(
        '--what',
        type=some_of(SUBJECTS),
        default=['step'],
        metavar='WHAT,...',
        help='; '.join(f'{name}: {fast}' for name, (fast, _) in SUBJECTS.items()) + ' (default: step)',
    )
    parser.add_argument(
        '--config',
        nargs='+',
        default=[DEFAULT_CONFIG],
        metavar='CONFIG',
        help=f'files, or names of configs of this package (default: {DEFAULT_CONFIG}); data and attention have none',
    )
    parser.add_argument(
        '--against', choices=AGAINST, default='reference', help='none: the fast side alone (default: reference)'
    )
    parser.add_argument('--device', help='cpu or cuda (default: a GPU if there is one)')
    parser.add_argument(
        '--precision',
        type=some_of(PRECISIONS),
        default=['fp32'],
        metavar='PRECISION,...',
        help=f'{", ".join(PRECISIONS)}: what the fast side of step and sample, and both sides of attention, compute in; all '
        'else is fp32 (default: fp32)',
    )
    parser.add_argument(
        '--batch-size',
        type=at_least(1),
        metavar='N',
        help="images at a time (default: the config's train_dataloader.batch_size; on a CPU, of step, sample and eval, no more "
        f'than {CPU_BATCH_SIZE} for images of {SMALL_IMAGES} pixels, {LARGE_CPU_BATCH_SIZE} for larger ones; of attention, 32)',
    )
    parser.add_argument(
        '--rounds',
        type=at_least(1),
        metavar='N',
        help=f'timed calls of each side, at least {MIN_ROUNDS}; of eval, which takes minutes, at least 1 (default: the least)',
    )
    parser.add_argument('--threads', type=at_least(1), metavar='N', help="the CPU's (default: as PyTorch has them)")
    parser.add_argument(
        '--num-samples',
        type=at_least(1),
        metavar='N',
        help=f'samples that eval scores (default: {EVALUATED}); images that data reads (default: {NUM_IMAGES})',
    )
    parser.add_argument(
        '--inception-style',
        choices=list(EXTRACTORS),
        default='digits',
        help="eval's extractor; pytorch is pytorch-fid's and StudioGAN's Inception, with random weights, which take as long as "
        'the published ones (default: %(default)s)',
    )
    parser.add_argument(
        '--data-root', metavar='DIR', help="data's folder of images, one folder a class (default: makes images like ImageNet's)"
    )
    parser.add_argument(
        '--reference-allocator',
        choices=list(ALLOCATORS),
        default='default',
        help='whether on a CPU the reference side of step and sample, too, keeps the memory that it has freed (default: '
        '%(default)s, which gives it back)',
    )
    parser.add_argument(
        '--profile',
        type=at_least(0),
        default=0,
        metavar='N',
        help='list the N operators that the fast sides of step, sample and attention spend most time in (default: none)',
    )
    add_cfg_options(parser)
    parser.add_argument('--json', metavar='FILE', help='write the results to this file')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.json:
        check_writable(args.json)
    options = BenchmarkOptions(
        what=args.what,
        configs=args.config,
        against=args.against,
        device=args.device,
        precisions=args.precision,
        batch_size=args.batch_size,
        rounds=args.rounds,
        threads=args.threads,
        num_samples=args.num_samples,
        cfg_options=args.cfg_options,
        reference_allocator=args.reference_allocator,
        inception_style=args.inception_style,
        data_root=args.data_root,
        profile=args.profile,
    )
    # Written after every measurement: the next one may take an hour.
    keep = partial(write_measurements, args.json) if args.json else lambda measurements: None
    print(measurements_table(run_benchmarks(options, keep=keep)))


if __name__ == '__main__':
    run_tool(main)
