#!/usr/bin/env python
"""Prints a config with everything it inherits, and says if it has a mistake."""

import argparse

from mmsagan.apis.cli import add_cfg_options, run_tool
from mmsagan.engine.config import complete_evaluation, load_config
from mmsagan.engine.config_check import check_config, is_for_evaluation_only


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_cfg_options(parser)
    args = parser.parse_args()
    cfg = load_config(args.config, args.cfg_options)
    print(cfg.pretty_text)
    training = not is_for_evaluation_only(cfg)
    if not training:
        complete_evaluation(cfg, 'test')
    check_config(cfg, training)


if __name__ == '__main__':
    run_tool(main)
