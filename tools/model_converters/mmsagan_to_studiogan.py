#!/usr/bin/env python
"""Writes a checkpoint as files of StudioGAN's current format, and prints the settings that its config needs."""

import argparse

import yaml

from mmsagan.apis.cli import at_least, run_tool
from mmsagan.checkpoints.convert import export_studiogan


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', metavar='IN.pth')
    parser.add_argument('--out-dir', required=True, metavar='DIR')
    parser.add_argument('--which', choices=['best', 'current'], default='best', help="a part of the files' names")
    parser.add_argument(
        '--dist-step',
        type=at_least(1),
        default=1,
        help="updates of D for one of G in the training, for the files' step (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    paths, settings, notes = export_studiogan(args.checkpoint, args.out_dir, args.which, args.dist_step)
    for path in paths:
        print(f'written to {path}')
    for note in notes:
        print(f'note: {note}')
    print('note: optimizers are not converted; StudioGAN can sample, evaluate and fine-tune from these files, not resume')
    print(f"StudioGAN's config needs:\n{yaml.safe_dump(settings, sort_keys=False, default_flow_style=None)}", end='')


if __name__ == '__main__':
    run_tool(main)
