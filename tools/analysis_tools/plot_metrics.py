#!/usr/bin/env python
"""Draws curves of one or several runs over their iterations: evaluation results, losses, whatever was logged."""

import argparse
from pathlib import Path

from mmsagan.cli.tool import at_least, run_tool, tool_parser
from mmsagan.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'work_dirs/digits --keys FID IS --out scores.png',
        'work_dirs/first work_dirs/second --keys loss_gen loss_disc --smooth 10 --out losses.png',
    )
    parser.add_argument(
        'logs',
        type=Path,
        nargs='+',
        metavar='LOG',
        help='work dir, whose runs are joined (the later one counts where they overlap), the folder of one of its runs, or a '
        'file scalars.json',
    )
    parser.add_argument(
        '--keys',
        nargs='+',
        required=True,
        metavar='KEY',
        help='quantities, one panel each, e.g. FID-digits/fid loss_gen; part of a name is enough, e.g. FID-digits or fid',
    )
    parser.add_argument('--out', type=Path, required=True, help='the .png, .svg or .pdf file; an existing one is replaced')
    parser.add_argument('--legend', nargs='+', metavar='NAME', help='names of the runs; default: those of the folders')
    parser.add_argument(
        '--smooth',
        type=at_least(1),
        default=1,
        metavar='N',
        help='average N neighbouring values; results of evaluations are not averaged (default: 1)',
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmsagan.utils.files import check_writable, write_output
    from mmsagan.visualization import curves_figure
    from mmsagan.visualization.curves import find_names, is_result, read_curves
    from mmsagan.visualization.figures import to_bytes

    check_writable(args.out, ('.png', '.svg', '.pdf'))
    folders = [log.resolve().name for log in args.logs]
    names = args.legend or (folders if len(set(folders)) == len(folders) else [str(log) for log in args.logs])
    if len(names) != len(args.logs) or len(set(names)) < len(names):
        raise ConfigError(f'--legend must give {len(args.logs)} different names, one for each log, got {", ".join(names)}')
    runs = {name: read_curves(log) for name, log in zip(names, args.logs)}
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
    run_tool(main, parse_args)
