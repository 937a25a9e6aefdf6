#!/usr/bin/env python
"""Extracts the statistics of a data set, or of a folder or archive of images, for FID.

Writes PKLNAME, which MMGeneration and MMagic read, too, and the same statistics as an .npz file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmsagan.cli.tool import add_extractor, at_least, extractor_options, run_tool, tool_parser
from mmsagan.errors import ConfigError

if TYPE_CHECKING:
    from mmsagan.evaluation import RealImages


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        '--data-cfg sagan_32_woReLUinplace_cifar10_b64x1 --subset train --num-samples -1 --pklname cifar10.pkl',
        '--imgsdir data/mine --size 128',
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--imgsdir', metavar='SOURCE', help='images: folder with subfolders, .zip, .tar, .tar.gz or .npz')
    source.add_argument('--data-cfg', metavar='CONFIG', help='config file, or the name of one of this package')
    parser.add_argument(
        '--subset', choices=['train', 'val', 'test'], default='test', help="which of the config's data loaders (default: test)"
    )
    parser.add_argument('--pklname', metavar='NAME', help='name of the file; default: that of the folder or config')
    parser.add_argument('--pkl-dir', default='work_dirs/inception_pkl', metavar='DIR', help='its folder (default: %(default)s)')
    parser.add_argument('--force', action='store_true', help='replace files that are of other images or features')
    parser.add_argument('--num-samples', type=int, default=50000, metavar='N', help='-1 for all images (default: %(default)s)')
    parser.add_argument('--no-shuffle', action='store_true', help='take the first images instead of random ones')
    parser.add_argument(
        '--size',
        type=at_least(1),
        metavar='PIXELS',
        help='resize the centre square of every image of --imgsdir to this many pixels',
    )
    add_extractor(parser)
    parser.add_argument('--batch-size', type=at_least(1), default=25, metavar='N', help='default: %(default)s')
    parser.add_argument(
        '--num-workers', type=at_least(0), default=2, metavar='N', help='processes that load images (default: %(default)s)'
    )
    parser.add_argument('--seed', type=at_least(0), default=2021, help='seed of the random choice (default: %(default)s)')
    return parser.parse_args()


def load_images(args: argparse.Namespace) -> RealImages:
    from mmsagan.apis.zoo import resolve_config
    from mmsagan.engine.config import complete_loader, load_config
    from mmsagan.evaluation import RealImages, open_images

    seed = None if args.no_shuffle else args.seed
    if args.imgsdir:
        return RealImages(open_images(args.imgsdir, args.size), args.num_workers, seed)
    loader = complete_loader(load_config(resolve_config(args.data_cfg)), args.subset)
    if 'type' not in loader.get('dataset', {}):
        raise ConfigError(f'{args.data_cfg} has no {args.subset}_dataloader with a dataset')
    return RealImages(loader['dataset'], args.num_workers, seed)


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis.statistics import image_statistics
    from mmsagan.evaluation import save_statistics
    from mmsagan.utils import counted
    from mmsagan.utils.files import check_writable

    path = Path(args.pkl_dir, args.pklname or f'{Path(args.imgsdir or args.data_cfg).resolve().stem}.pkl')
    check_writable(path, ('.pkl',))
    targets = (path, path.with_suffix('.npz'))
    replaces = () if args.force else targets
    statistics = image_statistics(load_images(args), args.num_samples, args.batch_size, extractor_options(args), replaces)
    for target in targets:
        save_statistics(statistics, target)
        print(f'statistics of {counted(statistics.size, "image")} written to {target}')


if __name__ == '__main__':
    run_tool(main, parse_args)
