"""Exported generators, loaded by their runtimes and held against the model that they are from."""

import copy
import json
import runpy
import sys
import warnings
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mmsagan import __version__
from mmsagan.apis import export
from mmsagan.apis.export import export_generator
from mmsagan.errors import ConfigError, ExportError, MMSAGANError
from mmsagan.models import ConditionalGAN
from mmsagan.models.layers.spectral_norm import fold_spectral_norm
from mmsagan.registry import MODELS

ROOT = Path(__file__).parent.parent.parent
FILES = {'onnx': 'generator.onnx', 'torchscript': 'generator.pt', 'pt2': 'generator.pt2'}
METADATA = dict(mmsagan_version=__version__, sample_model='ema', noise_size='16', image_format='RGB, float32 in [-1, 1]')


@MODELS.register_module()
class NoDiscriminator(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()


@torch.no_grad()
def make_gan(num_classes: int) -> ConditionalGAN:
    """One block, 8 x 8 pixels, and nothing at a value that hides a mistake: attention is on, G differs from its average."""
    torch.manual_seed(0)
    sizes = dict(output_scale=8, channels_cfg=[1], base_channels=8, noise_size=16, attention_after_nth_block=1)
    generator = dict(type='SAGANGenerator', with_spectral_norm=True, **sizes)
    networks = dict(generator=generator, discriminator=dict(type='NoDiscriminator'), ema_config=dict(momentum=0.9))
    gan = MODELS.build(dict(type='SAGAN', num_classes=num_classes, **networks))
    gan.init_weights()
    for network in (gan.generator, gan.generator_ema):
        network.train()
        for _ in range(20):
            network(gan.draw_noise(8), label=gan.draw_label(8))
        for name, parameter in network.named_parameters():
            parameter.add_(0.7 if name.endswith('gamma') else 0.05 * torch.randn_like(parameter))
    return gan.eval()


@pytest.fixture(scope='module')
def conditional_gan() -> ConditionalGAN:
    return make_gan(3)


@pytest.fixture(scope='module')
def unconditional_gan() -> ConditionalGAN:
    return make_gan(0)


def run_file(exported, **inputs) -> torch.Tensor:
    report = runpy.run_path(str(ROOT / 'tools' / 'deployment' / 'export.py'))['report'](exported)
    if exported.format == 'onnx':
        inputs = {name: value.numpy() for name, value in inputs.items()}
    names = dict(inputs, torch=torch, onnxruntime=onnxruntime)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # TorchScript is deprecated as a whole
        exec('\n'.join(line.strip() for line in report.splitlines()[-2:]), names)
    return torch.as_tensor(names['images'])


def metadata_of(path, format) -> dict:
    files = {'mmsagan.json': ''}
    if format == 'onnx':
        return onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.load(str(path), _extra_files=files) if format == 'torchscript' else torch.export.load(path, extra_files=files)
    return json.loads(files['mmsagan.json'])


@pytest.mark.parametrize('format, kind', [*((format, 'conditional') for format in FILES), ('torchscript', 'unconditional')])
def test_the_file_makes_the_models_images(tmp_path, request, capfd, format, kind):
    gan = request.getfixturevalue(f'{kind}_gan')
    path = tmp_path / 'new folder' / FILES[format]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        exported = export_generator(gan, path, format)
    assert capfd.readouterr() == ('', '')
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    for batch_size in (1, 2, 3, 8):
        inputs = dict(noise=torch.randn(batch_size, 16))
        if kind == 'conditional':
            inputs['label'] = torch.randint(3, (batch_size,))
        images = run_file(exported, **inputs)
        assert images.dtype == torch.float32
        torch.testing.assert_close(images, gan.sample(**inputs, sample_model='ema'), rtol=0, atol=1e-5)
        assert (images - gan.sample(**inputs, sample_model='orig')).abs().max() > 0.05
    assert exported.max_difference < 1e-5 and exported.size == path.stat().st_size and exported.path == path
    expected = dict(METADATA, num_classes=str(gan.num_classes), image_size=str(gan.generator.output_scale))
    assert exported.metadata == expected and metadata_of(path, format) == expected
    assert b'weight_orig' not in path.read_bytes()
    if format != 'torchscript':  # whose notes for debugging cannot be left out
        assert export.__file__.encode() not in path.read_bytes()
    if format == 'onnx':
        content = onnx.load(path)
        onnx.checker.check_model(content, full_check=True)
        assert content.opset_import[0].version == 18


def test_the_model_stays_as_it_is(tmp_path, conditional_gan):
    gan = copy.deepcopy(conditional_gan).train()
    exported = export_generator(gan, tmp_path / 'g.pt', 'torchscript', sample_model='orig')
    assert gan.generator.training and all(parameter.requires_grad for parameter in gan.generator.parameters())
    for key, value in conditional_gan.state_dict().items():
        assert torch.equal(gan.state_dict()[key], value), key
    assert gan.generator.conv_blocks[0].conv_2.weight_orig.is_contiguous(memory_format=torch.channels_last)
    inputs = dict(noise=torch.randn(4, 16), label=torch.tensor([2, 1, 0, 0]))
    images = run_file(exported, **inputs)
    torch.testing.assert_close(images, gan.sample(**inputs, sample_model='orig'), rtol=0, atol=1e-5)


def test_a_wrong_file_is_not_kept(tmp_path, monkeypatch, unconditional_gan):
    def fold_wrongly(network):
        with torch.no_grad():
            network.to_rgb.conv.bias.add_(0.01)
        return fold_spectral_norm(network)

    monkeypatch.setattr(export, 'fold_spectral_norm', fold_wrongly)
    path = tmp_path / 'g.pt'
    path.write_text('an earlier file')
    with pytest.raises(ExportError, match='0.01'):
        export_generator(unconditional_gan, path, 'torchscript')
    assert path.read_text() == 'an earlier file' and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    'name, options, named',
    [
        ('g.pt', dict(format='torchscript', opset=18), 'opset=18'),
        ('g.bin', dict(format='pt2'), 'g.bin'),
        ('g.pt', dict(format='torchscript', sample_model='best'), 'ema'),
        ('g.onnx', dict(), 'onnxscript'),  # which is missing
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, unconditional_gan, name, options, named):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ConfigError, match=named):
        export_generator(unconditional_gan, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


@MODELS.register_module()
class FlatGenerator(nn.Module):
    noise_size, output_scale = 4, 8

    def __init__(self, num_classes: int):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, 4)
        self.linear = nn.Linear(4, 3 * 64)

    def forward(self, noise, label=None):
        return torch.tanh(self.linear(noise + self.embedding(label))).reshape(-1, 3, 8, 8)


class OneShapeGenerator(FlatGenerator):
    """Uses the batch size as a number, which tracing fixes."""

    def forward(self, noise, label=None):
        return super().forward(noise, label).reshape(int(len(noise)), 3, 8, 8)


@pytest.fixture
def flat_gan() -> ConditionalGAN:
    return ConditionalGAN(dict(type='FlatGenerator'), dict(type='NoDiscriminator'), num_classes=3)


def test_generators_that_cannot_be_exported(tmp_path, flat_gan):
    flat_gan.generator.__class__ = OneShapeGenerator
    with pytest.raises(ExportError, match='torchscript'):
        export_generator(flat_gan, tmp_path / 'new' / 'folder' / 'g.pt', 'torchscript')
    flat_gan.generator.__class__ = FlatGenerator
    flat_gan.generator.linear.weight.data[0, 0] = float('nan')
    with pytest.raises(ExportError):
        export_generator(flat_gan, tmp_path / 'new' / 'g.pt', 'torchscript')
    assert not list(tmp_path.iterdir())


def test_operator_sets(tmp_path, flat_gan):
    export_generator(flat_gan, tmp_path / 'g.onnx', opset=20)
    assert onnx.load(tmp_path / 'g.onnx').opset_import[0].version == 20
    with pytest.raises(MMSAGANError, match='opset.*99'):
        export_generator(flat_gan, tmp_path / 'h.onnx', opset=99)
    assert [file.name for file in tmp_path.iterdir()] == ['g.onnx']


def test_the_exporter_of_older_torch(tmp_path, monkeypatch, flat_gan):
    monkeypatch.setattr(export, 'DYNAMO_EXPORTER_SINCE', (1000, 0))
    exported = export_generator(flat_gan, tmp_path / 'g.onnx')
    inputs = dict(noise=torch.randn(7, 4), label=torch.arange(7) % 3)
    images = run_file(exported, **inputs)
    torch.testing.assert_close(images, flat_gan.sample(**inputs), rtol=0, atol=1e-5)
    assert metadata_of(tmp_path / 'g.onnx', 'onnx') == exported.metadata and exported.metadata['num_classes'] == '3'
