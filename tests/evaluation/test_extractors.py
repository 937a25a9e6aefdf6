import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmsagan.datasets import EmbeddedMNIST
from mmsagan.errors import CheckpointError, ConfigError, DataError, DownloadError
from mmsagan.evaluation import DigitsExtractor, FeatureExtractor, PyTorchFIDInception, RealImages, StyleGANInception
from mmsagan.evaluation.extractors import FeatureSource, extractor_config
from mmsagan.evaluation.inception_v3 import InceptionV3, resize_tensorflow
from mmsagan.evaluation.resizing import Resize
from mmsagan.registry import EXTRACTORS

IMAGES = torch.randint(256, (3, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_torchscript(inception_file):
    extractor = StyleGANInception(inception_file)
    script = torch.jit.load(inception_file)
    features, probabilities = script(IMAGES, return_features=True), script(IMAGES, no_output_bias=True)
    alone = extractor(IMAGES, ('features',))
    assert set(alone) == {'features'}
    torch.testing.assert_close(alone['features'], features)
    torch.testing.assert_close(extractor(IMAGES, ('probabilities',))['probabilities'], probabilities)


def test_torchscript_runs_once_for_both_outputs(inception_file, monkeypatch):
    extractor = StyleGANInception(inception_file)
    expected = extractor.network(IMAGES, no_output_bias=True)
    calls = []
    network = extractor.network
    monkeypatch.setitem(extractor._modules, 'network', CountedScript(network, calls))
    both = extractor(IMAGES, ('features', 'probabilities'))
    torch.testing.assert_close(both['probabilities'], expected)
    assert calls == [dict(return_features=True)]


class CountedScript(torch.nn.Module):
    def __init__(self, script, calls):
        super().__init__()
        self.script, self.calls, self.output = script, calls, script.output

    def forward(self, images, **kwargs):
        self.calls.append(kwargs)
        return self.script(images, **kwargs)


class Unlike(torch.nn.Module):
    """Has the interface, but its probabilities do not follow from the features as those of the original do."""

    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(3, 4)

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        features = img.float().mean(dim=(2, 3)) / 255
        if return_features:
            return features
        return F.softmax(self.output(features) * 2, dim=1)


def test_torchscript_from_the_web_is_the_published_one_or_is_not_run(tmp_path, monkeypatch, inception_file):
    """It is a program. Another URL may be a mirror, and its file has to have the same sum."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    place = tmp_path / 'hub' / 'mmsagan' / 'example.org' / 'inception.pt'
    place.parent.mkdir(parents=True)
    place.write_bytes(Path(inception_file).read_bytes())
    monkeypatch.setattr(torch.jit, 'load', lambda *args, **kwargs: pytest.fail('it was run'))
    with pytest.raises(DownloadError, match=f'{StyleGANInception.sha256} expected'):
        StyleGANInception('https://example.org/inception.pt')


def test_torchscript_whose_layers_cannot_be_shared(tmp_path):
    torch.jit.script(Unlike()).save(str(tmp_path / 'unlike.pt'))
    extractor = StyleGANInception(str(tmp_path / 'unlike.pt'))
    both = extractor(IMAGES, ('features', 'probabilities'))
    torch.testing.assert_close(both['probabilities'], torch.jit.load(tmp_path / 'unlike.pt')(IMAGES, no_output_bias=True))


def test_files_that_are_not_the_torchscript(tmp_path, inception_file):
    with pytest.raises(DataError, match='gone.pt does not exist'):
        StyleGANInception(str(tmp_path / 'gone.pt'))
    truncated = tmp_path / 'truncated.pt'
    truncated.write_bytes(Path(inception_file).read_bytes()[:1000])
    with pytest.raises(DataError, match='truncated.pt: not a whole TorchScript file'):
        StyleGANInception(str(truncated))
    foreign = torch.jit.script(torch.nn.Linear(2, 2))
    foreign.save(str(tmp_path / 'foreign.pt'))
    with pytest.raises(DataError, match="not Tero Karras' Inception"):
        StyleGANInception(str(tmp_path / 'foreign.pt'))


@pytest.mark.parametrize(
    'extractor, name',
    [(StyleGANInception, 'inception-2015-12-05.pt'), (PyTorchFIDInception, 'pt_inception-2015-12-05-6726825d.pth')],
)
def test_without_a_network_the_message_says_where_to_put_which_file(tmp_path, monkeypatch, extractor, name):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    url = f'http://127.0.0.1:9/{name}'  # nobody listens there
    monkeypatch.setattr(extractor, 'url', url)
    with pytest.raises(DownloadError) as error:
        extractor()
    assert url in str(error.value) and str(tmp_path / 'mmsagan' / '127.0.0.1:9' / name) in str(error.value)


@pytest.fixture(scope='module')
def pytorch_weights(tmp_path_factory) -> str:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('weights') / 'inception.pth'
    torch.save(InceptionV3().state_dict(), path)
    return str(path)


@pytest.mark.parametrize('resize', ['pytorch-fid', 'tensorflow'])
def test_pytorch_fid(pytorch_weights, resize):
    extractor = PyTorchFIDInception(pytorch_weights, resize=resize).eval()
    network = InceptionV3().eval()
    network.load_state_dict(torch.load(pytorch_weights))
    if resize == 'tensorflow':
        scaled = (resize_tensorflow(IMAGES.float()) - 128) / 128
    else:
        scaled = 2 * F.interpolate(IMAGES.float() / 255, size=(299, 299), mode='bilinear', align_corners=False) - 1
    features, logits = network(scaled)
    results = extractor(IMAGES)
    torch.testing.assert_close(results['features'], features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(results['probabilities'], logits.softmax(1), rtol=1e-3, atol=1e-5)


def test_pytorch_fid_with_wrong_files(tmp_path):
    torch.save(dict(other=torch.zeros(1)), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='not the weights of InceptionV3'):
        PyTorchFIDInception(str(tmp_path / 'other.pth'))
    with pytest.raises(ConfigError, match='resize must be one of'):
        PyTorchFIDInception(resize='pillow')


def test_the_digits_extractor_is_small_and_knows_digits():
    assert DigitsExtractor.weights.stat().st_size < 1_000_000
    digits = RealImages(EmbeddedMNIST(split='test', pipeline=[dict(type='PackInputs')]))
    extractor = DigitsExtractor().eval()
    batch = next(digits.batches(500, 500, torch.device('cpu')))
    with torch.no_grad():
        results = extractor(batch.images, ('features', 'probabilities'))
        small = extractor(batch.images[:, :, 2:30, 2:30])['probabilities']
    assert results['features'].shape == (500, 64)
    assert (results['probabilities'].argmax(1) == batch.label).float().mean() > 0.97
    assert (small.argmax(1) == batch.label).float().mean() > 0.9, 'other sizes are resized'


def test_sources_that_are_alike_are_run_once(inception_file):
    first, second = (FeatureSource.of(extractor_config('StyleGAN', inception_file)) for _ in range(2))
    resized = FeatureSource.of(extractor_config('stylegan', inception_file)).resized(Resize(299))
    assert first == second and len({first, second, resized}) == 2
    assert first.name == 'inception-2015-12-05 (StyleGAN)' and resized.name == f'{first.name}, bicubic to 299 by pillow'
    assert not first.build().training


def test_names_tell_extractors_apart():
    sources = [FeatureSource.of(dict(type='PyTorchFIDInception', resize=resize)) for resize in ('pytorch-fid', 'tensorflow')]
    assert [source.suffix for source in sources] == ['-PyTorch', '-PyTorch-TF'] and sources[0].name != sources[1].name

    @EXTRACTORS.register_module(name='Nameless', force=True)
    class Nameless(FeatureExtractor):
        pass

    source = FeatureSource.of(dict(type='Nameless'))
    assert (source.name, source.suffix, source.is_inception) == ('Nameless', '-Nameless', False)


def test_an_extractor_of_ones_own():
    @EXTRACTORS.register_module(name='MeanColour', force=True)
    class MeanColour(FeatureExtractor):
        name, suffix = 'mean colour', '-colour'

        def forward(self, images, outputs=('features',)):
            return dict(features=images.float().mean((2, 3)))

    source = FeatureSource.of(dict(type='MeanColour'))
    np.testing.assert_allclose(source.build()(IMAGES)['features'], IMAGES.float().mean((2, 3)))
    assert source.suffix == '-colour' and json.loads(source.config) == dict(type='MeanColour')


def test_unknown_extractors():
    with pytest.raises(ConfigError, match='inception_style must be one of stylegan, pytorch, digits'):
        extractor_config('keras')
    with pytest.raises(ConfigError, match="'Nothing'.*: expected .* a registered type; there are StyleGANInception"):
        FeatureSource.of(dict(type='Nothing'))
    for config in ('digits', dict(type=DigitsExtractor), {}):
        with pytest.raises(ConfigError, match='expected dict'):
            FeatureSource.of(config)
    with pytest.raises(ConfigError, match='got None'):
        extractor_config(None)
