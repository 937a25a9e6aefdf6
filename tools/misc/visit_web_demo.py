#!/usr/bin/env python
"""Starts the web demo, clicks pixels of its samples in a browser, and tells how long their attention maps take.

Needs Chromium and Playwright. With --screenshots, it also takes pictures of every tab: on a desktop, in the dark, on a phone.
"""

import argparse
import tempfile
from pathlib import Path

from mmsagan.analysis.hardware import describe_device
from mmsagan.apis.cli import at_least, run_tool, tool_parser
from mmsagan.apis.inference import init_model
from mmsagan.apis.processes import find_device
from mmsagan.web.browser import RunningDemo, find_browser, open_browser
from mmsagan.web.checkpoints import resolve_checkpoint
from mmsagan.web.visiting import click_seconds, handler_seconds, in_words, open_page, take_screenshots


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b64x1 work_dirs/demo --screenshots pictures')
    parser.add_argument('config', help='config file, or its name in the model zoo, of a generator with attention')
    parser.add_argument('checkpoint', help="checkpoint file, URL, work dir, or 'zoo'")
    parser.add_argument('--clicks', type=at_least(1), default=30, metavar='N', help='default: %(default)s')
    parser.add_argument('--screenshots', type=Path, metavar='DIR', help='where pictures go, which replace older ones')
    parser.add_argument('--device', default='cpu', help='default: %(default)s')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    find_browser()
    device = find_device(args.device)
    model = init_model(args.config, resolve_checkpoint(args.config, args.checkpoint), device)
    print(f'{describe_device(device)}; {args.clicks} clicks, {model.generator.output_scale} pixels')
    print(f'attention computed and drawn: {in_words(handler_seconds(model, args.clicks))}')
    with tempfile.TemporaryDirectory() as folder:
        arguments = [args.config, args.checkpoint, '--device', args.device]
        with RunningDemo(arguments, Path(folder) / 'log') as demo, open_browser() as browser:
            page = open_page(browser, demo.url)
            print(f'click to last picture:        {in_words(click_seconds(page, model.generator.output_scale, args.clicks))}')
            for path in take_screenshots(browser, demo.url, args.screenshots) if args.screenshots else ():
                print(path)


if __name__ == '__main__':
    run_tool(main)
