#!/usr/bin/env python
"""Serves a page on which a trained generator is sampled, looked into, interpolated, and compared with other checkpoints.

The page can be opened on this machine only, unless --host says otherwise, and needs no internet. Besides the checkpoints given,
it offers to compare those that the training has left in the first one's folder.
"""

import argparse

from mmsagan.apis.processes import find_device
from mmsagan.apis.zoo import resolve_config
from mmsagan.cli.tool import add_cfg_options, at_least, run_tool, tool_parser
from mmsagan.web.checkpoints import Checkpoints
from mmsagan.web.server import check_gradio, open_port, serve


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b64x1 work_dirs/digits',
        'sagan_32_mnist_b64x1 work_dirs/digits/iter_900.pth --compare-with work_dirs/variant/iter_900.pth',
    )
    parser.add_argument('config', help='config file, or its name in the model zoo')
    parser.add_argument(
        'checkpoint',
        help="checkpoint file or URL; 'zoo' for the published weights; a work dir for the newest checkpoint in it",
    )
    parser.add_argument('--compare-with', nargs='+', default=[], metavar='CHECKPOINT', help='more checkpoints to compare')
    parser.add_argument('--compare-config', metavar='CONFIG', help='config of those (default: the same)')
    parser.add_argument(
        '--host', default='127.0.0.1', help='where to listen (default: %(default)s); 0.0.0.0 lets other machines in'
    )
    parser.add_argument('--port', type=at_least(0), default=7860, help='default: %(default)s; 0 takes a free one')
    parser.add_argument(
        '--max-images', type=at_least(2), default=100, metavar='N', help='most images at a time (default: %(default)s)'
    )
    parser.add_argument('--device', help='e.g. cpu or cuda:1; default: a GPU if there is one')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.compare_config and not args.compare_with:
        parser.error('--compare-config is the config of the checkpoints of --compare-with, and there are none')
    return args


def main() -> None:
    args = parse_args()
    check_gradio()
    resolve_config(args.config)
    device = find_device(args.device)
    with open_port(args.host, args.port) as listener:
        checkpoints = Checkpoints(
            args.config, args.checkpoint, device, args.cfg_options, args.compare_with, args.compare_config
        )
        serve(checkpoints, listener, args.max_images)
    print('stopped')


if __name__ == '__main__':
    run_tool(main)
