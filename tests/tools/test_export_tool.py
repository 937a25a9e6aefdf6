"""The export tool as a user types it."""

import runpy
import warnings

import onnxruntime
import pytest
import torch
from test_train_tool import CONFIG, ROOT, run

from mmsagan.apis.export import export_generator
from mmsagan.apis.inference import init_model
from mmsagan.models import ConditionalGAN

pytestmark = pytest.mark.slow

TOOL = 'tools/deployment/export.py'
SMALL = {'model.generator.base_channels': 8, 'model.discriminator.base_channels': 8}
OPTIONS = ['--cfg-options', *(f'{key}={value}' for key, value in SMALL.items())]


@pytest.fixture(scope='module')
def model() -> ConditionalGAN:
    return init_model(CONFIG, cfg_options=SMALL)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, model):
    path = tmp_path_factory.mktemp('checkpoint') / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def follow(usage: str, **names):
    """The images that the two lines of Python make."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # TorchScript is deprecated as a whole
        exec('\n'.join(line.strip() for line in usage.splitlines()), names)
    return torch.as_tensor(names['images'])


def test_export(tmp_path, checkpoint, model):
    path = tmp_path / 'out' / 'g.onnx'
    result = run(CONFIG, checkpoint, '--format', 'onnx', '--out', path, '--opset', 19, *OPTIONS, tool=TOOL)
    assert result.returncode == 0 and result.stderr == '', result.stderr
    *_, what, checked, shapes, load, use = result.stdout.splitlines()
    assert what.startswith(f'{path}: onnx, 0.') and what.endswith('MiB, the orig generator')
    assert 'batch sizes 1 and 5' in checked and float(checked.split()[-1]) < 1e-5
    assert shapes == 'noise (N, 128) float32, label (N,) int64 -> images (N, 3, 32, 32) RGB in [-1, 1]:'
    noise, label = torch.randn(3, 128), torch.arange(3)
    images = follow(f'{load}\n{use}', onnxruntime=onnxruntime, noise=noise.numpy(), label=label.numpy())
    torch.testing.assert_close(images, model.sample(noise, label), rtol=0, atol=1e-5)


@pytest.mark.parametrize('format, name', [('torchscript', 'g.pt'), ('pt2', 'g.pt2')])
def test_the_usage_of_the_other_formats(tmp_path, model, format, name):
    report = runpy.run_path(str(ROOT / TOOL))['report'](export_generator(model, tmp_path / name, format))
    noise, label = torch.randn(3, 128), torch.arange(3)
    images = follow(report.partition('in [-1, 1]:\n')[2], torch=torch, noise=noise, label=label)
    torch.testing.assert_close(images, model.sample(noise, label), rtol=0, atol=1e-5)


def test_wrong_input_gives_one_message_and_no_file(tmp_path, checkpoint):
    arguments = [CONFIG, checkpoint, '--format', 'pt2', '--out', tmp_path / 'g.pt2', '--sample-model', 'ema']
    result = run(*arguments, *OPTIONS, tool=TOOL)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: sample_model='ema', but the model keeps no moving average")
    assert not list(tmp_path.iterdir())
