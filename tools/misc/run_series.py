#!/usr/bin/env python
"""Trains several configs with the same seeds, and writes a table and a figure of their results.

Called again, it resumes a series that was stopped, or extends it by more seeds or a larger --max-iters.
"""

import argparse
from pathlib import Path

from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_feat16_fashion_b64x1 sagan_32_no-attention_fashion_b64x1 --work-dir work_dirs/fashion --seeds 1 2 --jobs 2',
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files, or names of configs of this package')
    parser.add_argument('--work-dir', type=Path, required=True, metavar='DIR', help='gets the trainings, table.md, curves.png')
    parser.add_argument('--seeds', nargs='+', type=at_least(0), default=[1, 2], metavar='SEED', help='default: 1 2')
    parser.add_argument('--max-iters', type=at_least(1), metavar='N', help="length of each training; default: the configs'")
    parser.add_argument('--keys', nargs='+', default=['FID'], metavar='KEY', help='as for plot_metrics.py (default: FID)')
    parser.add_argument('--jobs', type=at_least(1), default=1, metavar='N', help='trainings at a time (default: 1)')
    add_cfg_options(parser, 'change config values of all')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis.series import plan_series, series_curves, series_table, train_series
    from mmsagan.apis.zoo import resolve_config
    from mmsagan.utils.files import check_writable, write_output
    from mmsagan.visualization import curves_figure
    from mmsagan.visualization.figures import to_bytes

    seeds = list(dict.fromkeys(args.seeds))
    check_writable(args.work_dir / 'table.md')
    configs = [resolve_config(name) for name in args.configs]
    runs = plan_series(configs, seeds, args.work_dir, args.max_iters, args.cfg_options)
    train_series(runs, args.jobs)
    panels = series_curves(runs, args.keys)
    positive = [name for name, curves in panels.items() if all((values > 0).all() for _, values in curves.values())]
    table = series_table(panels, seeds)
    write_output(args.work_dir / 'table.md', table.encode(errors='backslashreplace'))
    write_output(args.work_dir / 'curves.png', to_bytes(curves_figure(panels, log_scale=positive), 'png'))
    print(f'\n{table}\nwritten to {args.work_dir / "table.md"}; the curves are in {args.work_dir / "curves.png"}')


if __name__ == '__main__':
    run_tool(main, parse_args)
