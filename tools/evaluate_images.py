#!/usr/bin/env python
"""Scores images from any source against real ones, or against their statistics.

Images are read from a folder and its subfolders, from a .zip, .tar or .tar.gz file, or from an .npz file with images arr_0
(N, H, W, 3) and, optionally, labels arr_1 (N,). Class folders, or the labels, are the classes of intra-fid.
"""

import argparse
import json

from mmsagan.cli.tool import add_extractor, add_launcher, at_least, extractor_options, run_tool, tool_parser

METRICS = ('fid', 'fid-infinity', 'sfid', 'is', 'kid', 'pr', 'authpct', 'intra-fid')


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'samples --real data/cifar10_test_images',
        'samples.npz --real cifar10_test_images.zip --metrics fid kid',
        'samples --real work_dirs/inception_pkl/cifar10.pkl --metrics fid --num-samples 50000',
        'samples --real data/mine --metrics fid --extractor pytorch --resize-mode clean',
    )
    parser.add_argument('images', help='images to score: folder, .zip, .tar, .tar.gz or .npz')
    parser.add_argument(
        '--real', metavar='SOURCE', help='real images, as above, or a .pkl or .npz file of their statistics (FID only)'
    )
    parser.add_argument('--metrics', nargs='+', choices=METRICS, default=['fid', 'is'], help='default: fid is')
    parser.add_argument('--num-samples', type=at_least(1), metavar='N', help='number of images to score; default: all')
    parser.add_argument(
        '--size', type=at_least(1), metavar='PIXELS', help='resize the centre square of every image to this many pixels'
    )
    add_extractor(parser)
    parser.add_argument('--batch-size', type=at_least(1), default=64, metavar='N', help='default: %(default)s')
    parser.add_argument(
        '--num-workers', type=at_least(0), default=2, metavar='N', help='processes that load images (default: %(default)s)'
    )
    parser.add_argument('--out', metavar='FILE', help='write the results to this .json file')
    add_launcher(parser, 'tools/dist_evaluate.sh')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmengine.config import Config
    from mmengine.dist import is_main_process

    from mmsagan.apis.experiment import results_table
    from mmsagan.apis.statistics import score_images
    from mmsagan.engine.distributed import join_processes
    from mmsagan.evaluation import RealImages, open_images
    from mmsagan.utils.files import check_writable, write_output

    if args.out:
        check_writable(args.out)
    join_processes(args.launcher, Config())
    images = RealImages(open_images(args.images, args.size), args.num_workers)
    metrics = list(dict.fromkeys(args.metrics))
    options = args.num_samples, args.batch_size, args.size, args.num_workers, extractor_options(args)
    results = score_images(images, metrics, args.real, *options)
    if is_main_process():
        print(results_table(results))
        if args.out:
            write_output(args.out, json.dumps(results, indent=2).encode())
            print(f'written to {args.out}')


if __name__ == '__main__':
    run_tool(main, parse_args)
