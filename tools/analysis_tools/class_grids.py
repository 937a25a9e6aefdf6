#!/usr/bin/env python
"""Draws samples by class, as in the paper's figure 6: one row per class, with its name and intra-FID at the left.

The samples are the same as those of tools/sample.py with the same options.
"""

import argparse
import json
from pathlib import Path

from mmsagan.cli.tool import add_labels, add_model, add_sampling, at_least, run_tool, tool_parser
from mmsagan.errors import ConfigError, DataError


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out classes.png')
    add_model(parser)
    parser.add_argument('--out', type=Path, required=True, help='the .png file; an existing one is replaced')
    add_labels(parser, 'the first ten')
    parser.add_argument('--num-per-class', type=at_least(1), default=8, metavar='N', help='samples per class (default: 8)')
    parser.add_argument(
        '--intra-fid',
        type=Path,
        metavar='FILE',
        help='file that tools/test.py --out wrote for a config with the metric IntraFID; it also has the names of the classes, '
        "which otherwise come from the config's data set if it is available, or are numbers",
    )
    add_sampling(parser)
    return parser.parse_args()


def read_intra_fid(path: Path, num_classes: int) -> tuple[str, dict[str, float]]:
    """Reads the name of the only IntraFID in a file that tools/test.py wrote, and its values by class, in their order."""
    try:
        results = json.loads(path.read_text(encoding='utf-8'))
        ((name, table),) = [item for item in results.items() if item[0].endswith('/per_class')]
        values = {label: float(value) for label, value in table.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f'{path}: not the results of tools/test.py --out with one metric IntraFID ({error})') from error
    if len(values) != num_classes:
        raise DataError(f'{path}: {name} has {len(values)} classes, but the model has {num_classes}')
    return name.removesuffix('/per_class'), values


def main(args: argparse.Namespace) -> None:
    import torch

    from mmsagan.apis import init_model
    from mmsagan.apis.sampling import SampleSet, class_names, parse_classes
    from mmsagan.engine.distributed import find_device
    from mmsagan.utils import counted
    from mmsagan.utils.files import check_writable, write_output
    from mmsagan.visualization import class_grid
    from mmsagan.visualization.figures import encode_png

    check_writable(args.out, ('.png',))
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    if not model.num_classes:
        raise ConfigError('the model has no classes; tools/sample.py draws its samples')
    if args.intra_fid:
        metric, table = read_intra_fid(args.intra_fid, model.num_classes)
        names, notes = list(table), [f'{metric} {value:.1f}' for value in table.values()]
    else:
        names, notes = class_names(model.cfg, model.num_classes), [''] * model.num_classes
    classes = parse_classes(args.labels, names) if args.labels is not None else list(range(min(10, model.num_classes)))
    samples = SampleSet(
        model, classes, args.num_per_class, seed=args.seed, sample_model=args.sample_model, truncation=args.truncation
    )
    images = torch.cat([images for _, images in samples.batches()])
    grid = class_grid(images, [names[i] for i in classes], [notes[i] for i in classes])
    write_output(args.out, encode_png(grid))
    print(f'{counted(args.num_per_class, "sample")} of {counted(len(classes), "class")} written to {args.out}')


if __name__ == '__main__':
    run_tool(main, parse_args)
