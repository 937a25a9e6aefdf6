#!/usr/bin/env python
"""Measures training steps, sampling, attention, evaluation, metrics and data loading, each against a reference implementation.

Both sides take turns in one process. Printed are medians with interquartile ranges, the ratio of the medians, the time of the
fast side's first call and the peak memory of a call. GFLOP/s are those of the operations that the fast side really does, and
their share of the rate that products of large matrices reach on this device.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser

WHAT = ('step', 'sample', 'attention', 'eval', 'metrics', 'data')
PRECISIONS = ('fp32', 'bf16')
DEFAULT_CONFIG = 'sagan_32_woReLUinplace_cifar10_b64x1'


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, '--what step,sample --precision bf16', '--what data --json data.json')

    def some_of(known: Sequence[str], text: str) -> list[str]:
        for name in text.split(','):
            if name not in known:
                raise argparse.ArgumentTypeError(f'invalid choice {name!r} (choose from {", ".join(known)})')
        return text.split(',')

    add, number = parser.add_argument, dict(type=at_least(1), metavar='N')
    help = f'one or more of {", ".join(WHAT)} (default: step)'
    add('--what', type=partial(some_of, WHAT), default=['step'], metavar='WHAT,...', help=help)
    help = f'configs of step, sample and eval, by file or name (default: {DEFAULT_CONFIG})'
    add('--config', dest='configs', nargs='+', default=[DEFAULT_CONFIG], metavar='CONFIG', help=help)
    add('--against', choices=['reference', 'none'], default='reference', help='none: measure the fast side alone')
    add('--device', help='cpu or cuda (default: a GPU if there is one)')
    help = 'fp32 and/or bf16, for the fast side of step and sample and both sides of attention (default: fp32)'
    add('--precision', type=partial(some_of, PRECISIONS), default=['fp32'], metavar='PRECISION,...', help=help)
    help = "images at a time (default: the config's, on a CPU at most 64, or 16 if larger than 32x32; attention: 32)"
    add('--batch-size', help=help, **number)
    add('--rounds', help='timed calls of each side (default: 5; eval: 1, metrics: 3)', **number)
    help = 'samples that eval scores, and features of metrics (default: 10000); images that data reads (default: 512)'
    add('--num-samples', help=help, **number)
    add('--num-features', default=2048, help='length of a vector of features of metrics (default: %(default)s)', **number)
    add('--inception-style', choices=['digits', 'pytorch'], default='digits', help='extractor of eval (default: %(default)s)')
    help = 'list the N operators that take most time on the fast side of step, sample and attention'
    add('--profile', help=help, **number)
    add_cfg_options(parser)
    add('--json', metavar='FILE', help='write the results to this file')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch

    from mmsagan.apis.zoo import resolve_config
    from mmsagan.engine.config import load_config
    from mmsagan.engine.distributed import find_device
    from mmsagan.utils.files import check_writable, write_output

    sys.path.insert(0, str(Path(__file__).parent / 'misc'))
    from benchmark_cases import DTYPES, WORKLOADS, matmul_peak, measure

    if args.json:
        check_writable(args.json)
    args.device = find_device(args.device)
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler reports its start and end
    if args.device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    paths = [resolve_config(name) for name in args.configs]
    configs = [load_config(path, dict(args.cfg_options or {})) for path in paths]
    name = f'CPU ({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} threads'
    name = torch.cuda.get_device_name(args.device) if args.device.type == 'cuda' else name
    print(f'{date.today()}, {name}, PyTorch {torch.__version__}')
    peaks = {
        name: matmul_peak(args.device, DTYPES[name]) for name in args.precision if {*args.what} - {'eval', 'metrics', 'data'}
    }
    for name, peak in peaks.items():
        print(f'matmul peak, {name}: {peak / 1e9:,.0f} GFLOP/s')
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        for what in args.what:
            print(f'\n{WORKLOADS[what].__doc__.splitlines()[0]}')
            for case in WORKLOADS[what](args, configs, Path(folder)):
                rows.append(measure(args, what, peaks, case))
                if args.json:  # now, since the next measurement may take an hour
                    write_output(args.json, json.dumps(dict(rows=rows), indent=2).encode() + b'\n')


if __name__ == '__main__':
    run_tool(main, parse_args)
