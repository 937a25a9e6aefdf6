#!/usr/bin/env python
"""Draws curves of one or several runs over their iterations: evaluation results, losses, whatever was logged."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmsagan.cli.tool import at_least, run_tool, tool_parser
from mmsagan.engine.logs import find_names, is_result, read_curves, run_name
from mmsagan.errors import ConfigError
from mmsagan.utils.files import check_writable, write_output
from mmsagan.visualization import curves_figure
from mmsagan.visualization.figures import to_bytes


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'work_dirs/digits --keys FID IS --out scores.png',
        'work_dirs/first work_dirs/second --keys loss_gen loss_disc --smooth 10 --out losses.png',
    )
    parser.add_argument(
        'logs',
        nargs='+',
        metavar='LOG',
        help='work dir, whose runs are joined (the later one counts where they overlap), or the folder of one of its runs, or '
        'a file scalars.json',
    )
    parser.add_argument(
        '--keys',
        nargs='+',
        required=True,
        metavar='KEY',
        help='one panel each, e.g. FID loss_gen; the end or the beginning of a name will do: FID means FID-digits/fid',
    )
    parser.add_argument('--out', type=Path, required=True, help='the .png, .svg or .pdf file; one of that name is replaced')
    parser.add_argument('--legend', nargs='+', metavar='NAME', help="the runs' names; default: those of their work dirs")
    parser.add_argument(
        '--smooth',
        type=at_least(1),
        default=1,
        metavar='N',
        help='average N neighbouring values of what training has logged, and leave results of evaluations (default: 1)',
    )
    return parser.parse_args()


def name_runs(logs: Sequence[str], legend: Sequence[str] | None) -> list[str]:
    """A name for each log, from the legend or from where it lies.

    Raises:
        ConfigError: There are not as many names as logs, or two are the same.
    """
    if legend is None:
        names = [run_name(log) for log in logs]
        legend = names if len(set(names)) == len(names) else list(logs)
    if len(legend) != len(logs) or len(set(legend)) < len(legend):
        raise ConfigError(f'--legend must have a name of its own for each of the {len(logs)} logs, got {", ".join(legend)}')
    return legend


def main() -> None:
    args = parse_args()
    check_writable(args.out, ('.png', '.svg', '.pdf'))
    runs = {name: read_curves(log) for name, log in zip(name_runs(args.logs, args.legend), args.logs)}
    logged = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    panels = {
        name: {run: curves[name] for run, curves in runs.items() if name in curves}
        for key in args.keys
        for name in find_names(key, logged)
    }
    figure = curves_figure(panels, {name: args.smooth for name in panels if not is_result(name)})
    write_output(args.out, to_bytes(figure, args.out.suffix[1:].lower()))
    print(f'{", ".join(panels)} written to {args.out}')
    for name, curves in panels.items():
        missing = [run for run in runs if run not in curves]
        if missing:
            print(f'{name}: nothing logged by {", ".join(missing)}')


if __name__ == '__main__':
    run_tool(main)
