#!/usr/bin/env python
"""Draws the attention maps of a generator, as in the paper's figure 1.

Each row shows a sample with its query pixels marked, and then the attention map of each query, with arrows to the most attended
regions. The samples are those that tools/sample.py generates with the same options.
"""

import argparse
import re
from pathlib import Path

from mmsagan.cli.tool import add_labels, add_model, add_sampling, at_least, run_tool, tool_parser
from mmsagan.errors import ConfigError


def parse_queries(text: str) -> list[tuple[int, int]] | None:
    """Parses pixels; returns None for ``auto``."""
    if text == 'auto':
        return None
    matches = [re.fullmatch(r'\s*(\d{1,5})\s*,\s*(\d{1,5})\s*', part) for part in text.split(';')]
    pixels = [(int(match[1]), int(match[2])) for match in matches if match]
    if len(pixels) < len(matches):
        raise ConfigError(f"queries {text!r}: write auto, or pixels in quotes, such as '16,16;4,20'")
    return pixels


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out attention.png',
        "sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out attention.png --labels 3,8 --queries '16,16;4,20'",
    )
    add_model(parser)
    parser.add_argument('--out', type=Path, required=True, help='.png file, which is overwritten')
    add_labels(parser, 'the first four')
    parser.add_argument('--num-per-class', type=at_least(1), metavar='N', help='samples per class (default: 1)')
    parser.add_argument(
        '--num-samples',
        type=at_least(1),
        metavar='N',
        help='instead of the two options above: N samples of classes drawn uniformly; the only choice for an unconditional '
        'model (default: 4)',
    )
    parser.add_argument(
        '--queries',
        type=parse_queries,
        metavar='auto|X,Y;X,Y',
        help="query pixels, counted from the upper left corner, in quotes: '16,16;4,20'; auto (default) chooses salient pixels "
        'of each sample, always the same',
    )
    parser.add_argument('--num-queries', type=at_least(1), default=4, metavar='Q', help='number of auto queries (default: 4)')
    parser.add_argument('--layer', default='last', help="'last' (default), 'all', or a name, e.g. feat32")
    add_sampling(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis import attention_maps, init_model
    from mmsagan.apis.sampling import SampleSet, class_names, parse_classes
    from mmsagan.engine.distributed import find_device
    from mmsagan.utils import counted
    from mmsagan.utils.files import check_writable, write_output
    from mmsagan.visualization import attention_figure
    from mmsagan.visualization.figures import encode_png

    check_writable(args.out, ('.png',))
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    names = class_names(model.cfg, model.num_classes)
    labels = parse_classes(args.labels, names) if args.labels is not None else None
    if args.num_samples or not model.num_classes:
        samples = SampleSet(model, labels, args.num_per_class, args.num_samples or 4, args.seed)
    else:
        samples = SampleSet(model, labels or range(min(4, model.num_classes)), args.num_per_class or 1, seed=args.seed)
    options = dict(seed=args.seed, sample_model=args.sample_model, truncation=args.truncation)
    attention = attention_maps(model, args.queries or args.num_queries, samples.num_samples, samples.labels, **options)
    maps = attention.select(args.layer)
    rows = None if samples.labels is None else [names[label] for label in samples.labels]
    write_output(args.out, encode_png(attention_figure(attention.images, attention.queries, maps, rows)))
    print(f'attention of {counted(samples.num_samples, "sample")} in {", ".join(maps)} written to {args.out}')


if __name__ == '__main__':
    run_tool(main, parse_args)
