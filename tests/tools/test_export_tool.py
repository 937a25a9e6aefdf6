"""The export tool as a user types it."""

from pathlib import Path

import torch

CONFIG = 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'
TOOL = 'deployment/export.py'
SMALL = ['--cfg-options', 'model.generator.base_channels=32', 'model.discriminator.base_channels=16']


def test_export(tmp_path, run_here, fixture_of):
    path, checkpoint = tmp_path / 'out' / 'g.pt', fixture_of('mmagic_32_woReLUinplace').path
    arguments = [CONFIG, checkpoint, '--format', 'torchscript', '--sample-model', 'orig', '--out', path]
    code, output, errors = run_here(TOOL, *arguments, *SMALL)
    assert code == 0, errors
    *_, what, checked, shapes, load, use = output.splitlines()
    assert str(path) in what and 'orig' in what and float(checked.split()[-1]) < 1e-5
    assert '(N, 128)' in shapes and '(N, 3, 32, 32)' in shapes
    names = dict(torch=torch, noise=torch.randn(3, 128), label=torch.arange(3))
    exec(f'{load.strip()}\n{use.strip()}', names)
    assert names['images'].shape == (3, 3, 32, 32)


def test_wrong_input_gives_one_message_and_no_file(tmp_path, run_here, fixture_of):
    arguments = [CONFIG, fixture_of('mmagic_32_woReLUinplace').path, '--format', 'pt2', '--out', tmp_path / 'g.pt2']
    code, _, errors = run_here(TOOL, *arguments, '--sample-model', 'ema', *SMALL)
    assert code == 2 and errors.splitlines()[-1].startswith('error: ') and 'ema' in errors.splitlines()[-1]
    assert not list(Path(tmp_path).iterdir())
