#!/usr/bin/env python
"""Draws samples and training images as points in the plane, by t-SNE of an extractor's features, with a colour for each class.

Classes whose samples lie apart from their training images are not learned yet, and regions without samples are missing modes.
Needs scikit-learn. The default extractor is that of the config's FID. A .csv file beside the picture has the points.
"""

import argparse
from pathlib import Path

from mmsagan.cli.tool import add_extractor, add_model, add_sampling, at_least, extractor_options, run_tool, tool_parser
from mmsagan.errors import ConfigError

WIDTH, HEIGHT = 900, 700  # pixels
MAX_NAMES = 20  # in the legend


def parse_args() -> argparse.Namespace:
    example = 'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out embedding.png'
    parser = tool_parser(__doc__, example)
    add_model(parser)
    parser.add_argument('--out', type=Path, required=True, help='.png file, which is overwritten, as is the .csv file')
    help = 'samples, and training images (default: %(default)s)'
    parser.add_argument('--num-samples', type=at_least(5), default=1000, metavar='N', help=help)
    parser.add_argument('--perplexity', type=float, default=30.0, metavar='X', help='of t-SNE (default: %(default)s)')
    parser.add_argument('--batch-size', type=at_least(1), default=64, metavar='N', help='default: %(default)s')
    add_extractor(parser)
    add_sampling(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from matplotlib import colormaps

    from mmsagan.apis import init_model
    from mmsagan.apis.inspection import extract_features, fid_extractor, training_config
    from mmsagan.apis.sampling import SampleSet, class_names
    from mmsagan.engine.distributed import find_device
    from mmsagan.evaluation import RealImages
    from mmsagan.utils import counted
    from mmsagan.utils.files import check_picture_and_table, write_csv, write_output
    from mmsagan.visualization.figures import encode_png, pixel_figure, printable, to_array

    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ConfigError('t-SNE needs scikit-learn: pip install scikit-learn') from None
    table = check_picture_and_table(args.out)
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    options = dict(sample_model=args.sample_model, truncation=args.truncation)
    samples = SampleSet(model, None, None, args.num_samples, args.seed, args.batch_size, **options)
    training = RealImages(training_config(model.cfg), seed=args.seed)
    count = min(args.num_samples, len(training))
    total = args.num_samples + count
    if not 1 <= args.perplexity < total:
        raise ConfigError(f'--perplexity must be from 1 to below {total}, the number of images, got {args.perplexity}')
    batches = training.batches(count, args.batch_size, torch.device('cpu'))
    batches = [(batch.images, batch.label) for batch in batches]
    real, real_label = map(torch.cat, zip(*batches))
    fake = torch.cat([images for _, images in samples.batches()])
    if samples.labels is None:  # no classes
        real_label, fake_label = torch.zeros_like(real_label), torch.zeros(len(fake), dtype=torch.long)
    else:
        fake_label = samples.labels
    extractor = extractor_options(args) or fid_extractor(model.cfg)
    features = extract_features(torch.cat([real, fake]).to(model.device), args.batch_size, **extractor)
    points = TSNE(perplexity=args.perplexity, init='pca', random_state=0).fit_transform(features.double().numpy())

    names = class_names(model.cfg, model.num_classes or 1)
    figure = pixel_figure(WIDTH, HEIGHT)
    figure.set_layout_engine('constrained')
    axes = figure.subplots()
    label = torch.cat([real_label, fake_label])
    colours = colormaps['tab10' if len(names) <= 10 else 'tab20' if len(names) <= 20 else 'turbo']
    for kind, part, marker in (('training images', slice(len(real)), '.'), ('samples', slice(len(real), None), 'x')):
        colour = label[part] / max(len(names) - 1, 1) if len(names) > 20 else label[part]
        axes.scatter(*points[part].T, c=colours(colour.numpy()), marker=marker, s=22, linewidths=0.9, alpha=0.75)
        axes.scatter([], [], c='black', marker=marker, label=kind)
    for number, name in enumerate(names[:MAX_NAMES] if model.num_classes else []):
        axes.scatter([], [], color=colours(number if len(names) <= 20 else number / (len(names) - 1)), label=printable(name))
    axes.set(xticks=[], yticks=[])
    for text in figure.legend(loc='outside right upper').get_texts():
        text.set_parse_math(False)
    write_output(args.out, encode_png(to_array(figure)))
    kinds = ['real'] * len(real) + ['fake'] * len(fake)
    rows = zip(kinds, label.tolist() if model.num_classes else [''] * len(label), points.tolist())
    write_csv(table, [['kind', 'label', 'x', 'y'], *([kind, label, f'{x:.6g}', f'{y:.6g}'] for kind, label, (x, y) in rows)])
    counts = f'{counted(len(fake), "sample")} and {counted(len(real), "training image")}'
    print(f'{counts} written to {args.out}, the points to {table}')


if __name__ == '__main__':
    run_tool(main, parse_args)
