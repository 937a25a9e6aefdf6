#!/usr/bin/env python
"""Removes what only training needs from a checkpoint, and puts its hash into its name.

With --to, it writes a repository of the Hugging Face Hub: the weights, config.json, a model card with the scores, samples, and
the files of a Space with the web page. They are written into a folder first; nothing is pushed without --yes.
"""

import argparse
from pathlib import Path

from mmsagan.cli.tool import run_tool, tool_parser
from mmsagan.errors import ConfigError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'work_dirs/digits/iter_3000.pth digits.pth --weights ema --no-discriminator',
        'work_dirs/digits/iter_3000.pth --to hf://user/digits --license cc-by-sa-3.0',
    )
    parser.add_argument('checkpoint', metavar='IN.pth', help='file to read')
    parser.add_argument('out', metavar='OUT', nargs='?', help='.pth or .safetensors file; the hash is added to its name')
    parser.add_argument('--to', metavar='hf://USER/REPO|DIR', help='instead of OUT: repository to write, or only its folder')
    parser.add_argument('--private', action='store_true', help='create a private repository')
    parser.add_argument('--yes', action='store_true', help='push the repository; by default, only its folder is written')
    parser.add_argument('--license', metavar='ID', help="the model's license, as the Hub calls it, e.g. cc-by-4.0")
    parser.add_argument(
        '--weights',
        choices=['both', 'ema'],
        default='both',
        help='both: the generator and its moving average; ema: only the average, as the generator (default: %(default)s)',
    )
    parser.add_argument('--no-discriminator', action='store_true', help='leave out D, which only fine-tuning needs')
    args = parser.parse_args()
    if bool(args.out) == bool(args.to):
        parser.error('give either OUT or --to')
    if (args.yes or args.private) and not (args.to or '').startswith('hf://'):
        parser.error('--yes and --private need --to hf://USER/REPO')
    return args


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis.hub import check_target, push_repository, write_repository
    from mmsagan.checkpoints.publish import publish
    from mmsagan.utils.download import HUB

    options = dict(weights=args.weights, with_discriminator=not args.no_discriminator)
    if args.out:
        path, dropped = publish(args.checkpoint, args.out, **options)
        print(f'written to {path} ({path.stat().st_size / 2**20:.1f} MiB)')
        if dropped:
            print(f'left out: {", ".join(dropped)}')
        return
    is_hub = args.to.startswith(HUB)
    beside = 'work_dirs' if '://' in args.checkpoint else Path(args.checkpoint).parent
    folder = Path(beside, 'hub', check_target(args.to)) if is_hub else Path(args.to)
    config = folder / 'config.json'
    is_written = config.is_file() and '"library_name": "mmsagan"' in config.read_text(errors='replace')
    if folder.is_dir() and any(folder.iterdir()) and not is_written:
        raise ConfigError(f'{folder} is not empty and does not contain a previously written repository; choose another folder')
    for path in write_repository(args.checkpoint, folder, args.to if is_hub else None, license=args.license, **options):
        print(f'{path.stat().st_size / 2**20:8.2f} MiB  {path}')
    if is_hub and args.yes:
        print(f'pushed: {push_repository(folder, args.to, args.private)}')
    elif is_hub:
        kind = 'private' if args.private else 'public'
        print(f'nothing was pushed; with --yes, these files go into the {kind} repository {args.to.removeprefix(HUB)}')


if __name__ == '__main__':
    run_tool(main, parse_args)
