#!/usr/bin/env python
"""Exports the generator to one file that runs without this package, and compares its images with the model's."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mmsagan.cli.tool import add_cfg_options, add_model, at_least, run_tool, tool_parser

if TYPE_CHECKING:
    from mmsagan.apis import export

USAGE = {
    'onnx': (
        "session = onnxruntime.InferenceSession('{path}')",
        "images, = session.run(['images'], dict({inputs}))  # numpy arrays",
    ),
    'torchscript': ("generator = torch.jit.load('{path}')", 'images = generator({inputs})'),
    'pt2': ("generator = torch.export.load('{path}').module()", 'images = generator({inputs})'),
}


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'sagan_32_mnist_b32x1 work_dirs/digits/iter_3000.pth --format onnx --out generator.onnx')
    add_model(parser)
    help = 'onnx: for ONNX Runtime and others; pt2: torch.export; torchscript: for C++ and older torch, deprecated by torch'
    parser.add_argument('--format', choices=list(USAGE), required=True, help=help)
    parser.add_argument('--out', required=True, metavar='FILE', help='file to write')
    help = 'which generator; default: the moving average if there is one'
    parser.add_argument('--sample-model', choices=['ema', 'orig'], help=help)
    help = 'operator set of an ONNX file; default: 18, which most runtimes read'
    parser.add_argument('--opset', type=at_least(1), metavar='N', help=help)
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmsagan.apis import export
    from mmsagan.apis.inference import init_model

    export.check_export_arguments(args.out, args.format, args.opset)
    model = init_model(args.config, args.checkpoint, cfg_options=args.cfg_options)
    print(report(export.export_generator(model, args.out, args.format, args.sample_model, args.opset)))


def report(exported: export.ExportedGenerator) -> str:
    """Says what was written and how it was checked, with two lines of Python that use the file."""
    from mmsagan.apis import export

    metadata = exported.metadata
    is_conditional = metadata['num_classes'] != '0'
    inputs = 'noise=noise, label=label' if is_conditional else 'noise=noise'
    sizes = ' and '.join(map(str, export.CHECKED_BATCH_SIZES))
    code = '\n'.join(f'    {line}' for line in USAGE[exported.format]).format(path=exported.path, inputs=inputs)
    return (
        f'{exported.path}: {exported.format}, {exported.size / 2**20:.1f} MiB, the {metadata["sample_model"]} generator\n'
        f"run at batch sizes {sizes}: its images differ from the model's by at most {exported.max_difference:.1e}\n"
        f'noise (N, {metadata["noise_size"]}) float32{", label (N,) int64" if is_conditional else ""} -> '
        f'images (N, 3, {metadata["image_size"]}, {metadata["image_size"]}) RGB in [-1, 1]:\n{code}'
    )


if __name__ == '__main__':
    run_tool(main, parse_args)
