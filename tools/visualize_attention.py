#!/usr/bin/env python
"""Draws what a generator attends to, as in the paper's figure 1.

A row a sample: first the sample with coloured queries, then for each query its attention map, with arrows to the most attended
regions. The samples are those that tools/sample.py makes with the same options.
"""

import argparse
from pathlib import Path

from mmsagan.apis import attention_maps, init_model
from mmsagan.apis.attention import parse_queries
from mmsagan.apis.class_names import class_names
from mmsagan.apis.pictures import check_picture, write_picture
from mmsagan.apis.processes import find_device
from mmsagan.apis.sample_set import SampleSet, parse_classes, plan_samples
from mmsagan.cli.tool import add_sampling, at_least, run_tool, tool_parser
from mmsagan.models import ConditionalGAN
from mmsagan.visualization import attention_figure, check_attention_figure


def parse_args() -> argparse.Namespace:
    parser = tool_parser(
        __doc__,
        'sagan_32_mnist_b64x1 work_dirs/digits/iter_900.pth --out attention.png',
        "sagan_32_mnist_b64x1 work_dirs/digits/iter_900.pth --out attention.png --labels 3,8 --queries '16,16;4,20'",
    )
    parser.add_argument('config', help='config file, or the name of one of this package')
    parser.add_argument(
        'checkpoint', help="file or URL, also of MMGeneration, MMagic or StudioGAN; 'zoo' for the config's published weights"
    )
    parser.add_argument('--out', type=Path, required=True, help='the .png file; one of that name is replaced')
    parser.add_argument('--labels', type=parse_classes, metavar='CLASSES', help='e.g. 0-3 or 1,5; default: the first four')
    parser.add_argument('--num-per-class', type=at_least(1), metavar='N', help='samples of each class (default: 1)')
    parser.add_argument(
        '--num-samples',
        type=at_least(1),
        metavar='N',
        help='in the place of the two above: N samples of classes drawn uniformly; an unconditional model has this option only '
        '(default: 4)',
    )
    parser.add_argument(
        '--queries',
        type=parse_queries,
        metavar='auto|X,Y;X,Y',
        help="pixels from whose attention maps are drawn, from the upper left corner, in quotes: '16,16;4,20'; auto (default) "
        'chooses salient ones in each sample, always the same',
    )
    parser.add_argument('--num-queries', type=at_least(1), default=4, metavar='Q', help='how many auto chooses (default: 4)')
    parser.add_argument('--layer', default='last', help="'last' (default), 'all', or its name, e.g. feat32")
    add_sampling(parser)
    return parser.parse_args()


def plan_rows(args: argparse.Namespace, model: ConditionalGAN) -> SampleSet:
    """The samples to be drawn."""
    if args.num_samples or not model.num_classes:
        return plan_samples(model, args.labels, args.num_per_class, args.num_samples or 4, args.seed)
    classes = args.labels or list(range(min(4, model.num_classes)))
    return plan_samples(model, classes, args.num_per_class or 1, seed=args.seed)


def main() -> None:
    args = parse_args()
    check_picture(args.out)
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    samples = plan_rows(args, model)
    queries = args.queries or args.num_queries
    num_queries = len(args.queries) if args.queries else args.num_queries
    check_attention_figure(samples.num_samples, num_queries, model.generator.output_scale, model.generator.output_scale)
    names = class_names(model.cfg, model.num_classes)
    attention = attention_maps(
        model,
        queries,
        samples.num_samples,
        samples.labels,
        seed=args.seed,
        sample_model=args.sample_model,
        truncation=args.truncation,
    )
    maps = attention.select(args.layer)
    rows = None if samples.labels is None else [names[label] for label in samples.labels]
    write_picture(args.out, attention_figure(attention.images, attention.queries, maps, rows))
    print(f'attention of {samples.num_samples} samples in {", ".join(maps)} written to {args.out}')


if __name__ == '__main__':
    run_tool(main)
