#!/usr/bin/env python
"""Prints a config with everything it inherits, and says if it has a mistake."""

import argparse

from mmsagan.cli.tool import add_cfg_options, run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b32x1', 'my_config.py --cfg-options model.generator.base_channels=32')
    parser.add_argument('config', help='config file, or the name of one of this package')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis.zoo import resolve_config
    from mmsagan.engine.config import check_config, complete_evaluation, load_config

    cfg = load_config(resolve_config(args.config), args.cfg_options)
    print(cfg.pretty_text)
    complete_evaluation(cfg, 'test')
    check_config(cfg, training=None)


if __name__ == '__main__':
    run_tool(main, parse_args)
