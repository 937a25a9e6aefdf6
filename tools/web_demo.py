#!/usr/bin/env python
"""Serves a page to sample a trained generator, inspect its attention, interpolate, and compare checkpoints.

Only this machine can open the page, unless --host is set, and it needs no internet access. Besides the given checkpoints, the
page offers those that training left in the folder of the first one.
"""

import argparse

from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 work_dirs/digits',
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --compare-with work_dirs/variant/iter_3000.pth',
    )
    parser.add_argument('config', help='config file, or its name in the model zoo')
    parser.add_argument(
        'checkpoint',
        help="checkpoint file or URL; 'zoo' for the published weights; a work dir for its latest checkpoint",
    )
    parser.add_argument('--compare-with', nargs='+', default=[], metavar='CHECKPOINT', help='more checkpoints to compare')
    parser.add_argument('--compare-config', metavar='CONFIG', help='config of those (default: the same)')
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen on (default: %(default)s); 0.0.0.0 admits other machines'
    )
    parser.add_argument('--port', type=at_least(0), default=7860, help='default: %(default)s; 0 selects a free one')
    parser.add_argument(
        '--root-path',
        default='',
        metavar='PATH',
        help='where a reverse proxy offers the page, if not at the root of its host: e.g. /demo, or https://example.org/demo',
    )
    parser.add_argument(
        '--max-images', type=at_least(2), default=100, metavar='N', help='maximum images per request (default: %(default)s)'
    )
    parser.add_argument('--device', help='e.g. cpu or cuda:1; default: a GPU if there is one')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.root_path and not args.root_path.startswith(('/', 'http://', 'https://')):
        parser.error(f'--root-path must begin with / or https://, got {args.root_path!r}')
    if args.compare_config and not args.compare_with:
        parser.error('--compare-config requires --compare-with')
    return args


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis.zoo import resolve_config
    from mmsagan.engine.distributed import find_device
    from mmsagan.web.app import open_port, serve
    from mmsagan.web.checkpoints import Checkpoints

    resolve_config(args.config)
    device = find_device(args.device)
    with open_port(args.host, args.port) as listener:
        checkpoints = Checkpoints(
            args.config, args.checkpoint, device, args.cfg_options, args.compare_with, args.compare_config
        )
        serve(checkpoints, listener, args.max_images, args.root_path)
    print('stopped')


if __name__ == '__main__':
    run_tool(main, parse_args)
