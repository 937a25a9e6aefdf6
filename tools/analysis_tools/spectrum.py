#!/usr/bin/env python
"""Draws the mean power spectra of samples and of training images, and the power at each radial frequency.

Samples with too little power at high frequencies are blurred; peaks there are the traces of upsampling. A .csv file beside the
picture has the radial profiles.
"""

import argparse
from pathlib import Path

from mmsagan.cli.tool import add_model, add_sampling, at_least, run_tool, tool_parser

PANEL = 400  # pixels


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --out spectrum.png')
    add_model(parser)
    parser.add_argument('--out', type=Path, required=True, help='.png file, which is overwritten, as is the .csv file')
    help = 'samples, and training images (default: %(default)s)'
    parser.add_argument('--num-samples', type=at_least(1), default=1000, metavar='N', help=help)
    parser.add_argument('--batch-size', type=at_least(1), default=64, metavar='N', help='default: %(default)s')
    add_sampling(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import torch
    from matplotlib.colors import LogNorm

    from mmsagan.apis import init_model
    from mmsagan.apis.inspection import power_spectrum, training_config
    from mmsagan.apis.sampling import SampleSet
    from mmsagan.engine.distributed import find_device
    from mmsagan.evaluation import RealImages
    from mmsagan.utils import counted
    from mmsagan.utils.files import check_picture_and_table, write_csv, write_output
    from mmsagan.visualization.figures import encode_png, pixel_figure, to_array

    table = check_picture_and_table(args.out)
    model = init_model(args.config, args.checkpoint, find_device(args.device), args.cfg_options)
    options = dict(sample_model=args.sample_model, truncation=args.truncation)
    samples = SampleSet(model, None, None, args.num_samples, args.seed, args.batch_size, **options)
    training = RealImages(training_config(model.cfg), seed=args.seed)
    count = min(args.num_samples, len(training))
    real = torch.cat([batch.images for batch in training.batches(count, args.batch_size, torch.device('cpu'))])
    fake = torch.cat([images for _, images in samples.batches()])
    spectra = {'training images': power_spectrum(real), 'samples': power_spectrum(fake)}

    figure = pixel_figure(3 * PANEL, PANEL)
    figure.set_layout_engine('constrained')
    *maps, profile = figure.subplots(1, 3)
    middle = fake.shape[-1] // 2
    # The power at frequency 0 is that of the mean, which is subtracted.
    powers = torch.cat([power.flatten() for power, _ in spectra.values()])
    scale = LogNorm(float(powers[powers > 1e-12].quantile(0.01)), float(powers.max()))
    for axes, (name, (power, rings)) in zip(maps, spectra.items()):
        extent = [-middle - 0.5, fake.shape[-1] - middle - 0.5] * 2
        picture = axes.imshow(power.clamp_min(scale.vmin).numpy(), norm=scale, extent=extent, origin='lower', cmap='viridis')
        axes.set_title(name)
        axes.set_xlabel('cycles per image')
        profile.plot(range(1, middle + 1), rings[1:], label=name)
    figure.colorbar(picture, ax=maps, shrink=0.8)
    profile.set(xlabel='cycles per image', title='power by radial frequency', yscale='log')
    profile.grid(alpha=0.3)
    profile.legend()
    write_output(args.out, encode_png(to_array(figure)))
    lines = zip(range(middle + 1), *(rings.tolist() for _, rings in spectra.values()))
    write_csv(table, [['frequency', 'real', 'fake'], *([k, f'{real:.6g}', f'{fake:.6g}'] for k, real, fake in lines)])
    counts = f'{counted(len(fake), "sample")} and {counted(count, "training image")}'
    print(f'spectra of {counts} written to {args.out}, the profiles to {table}')


if __name__ == '__main__':
    run_tool(main, parse_args)
