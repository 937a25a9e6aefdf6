from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmsagan.datasets import EmbeddedMNIST
from mmsagan.errors import CheckpointError, ConfigError, DataError, DownloadError
from mmsagan.evaluation import DigitsExtractor, InceptionScore, PyTorchFIDInception, RealImages, StyleGANInception
from mmsagan.evaluation.extractors import FeatureSource, resize_pillow
from mmsagan.evaluation.inception_v3 import InceptionV3

IMAGES = torch.randint(256, (3, 3, 32, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('size', [299, 16])
@pytest.mark.parametrize('method', ['bicubic', 'bilinear', 'nearest'])
def test_pillow_bit_for_bit(size, method):
    resized = resize_pillow(IMAGES, method, size)
    assert resized.shape == (3, 3, size, size) and resized.dtype == torch.uint8
    for image, result in zip(IMAGES, resized):
        expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling[method.upper()])
        np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize('options', [dict(resize_method='cubic'), dict(use_pillow_resize=False)])
def test_other_ways_to_resize_are_refused(options):
    with pytest.raises(ConfigError, match='resize_method'):
        InceptionScore(**options)


def test_torchscript_with_both_outputs(inception_file):
    extractor = StyleGANInception(inception_file)
    script = torch.jit.load(inception_file)
    features, probabilities = script(IMAGES, return_features=True), script(IMAGES, no_output_bias=True)
    torch.testing.assert_close(extractor(IMAGES, ('features',)), dict(features=features))
    torch.testing.assert_close(extractor(IMAGES, ('probabilities',)), dict(probabilities=probabilities))
    both = extractor(IMAGES, ('features', 'probabilities'))
    torch.testing.assert_close(both, dict(features=features, probabilities=probabilities))


def test_torchscript_from_the_web_is_the_published_one_or_is_not_run(tmp_path, monkeypatch, inception_file):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    place = tmp_path / 'hub' / 'mmsagan' / 'example.org' / 'inception.pt'
    place.parent.mkdir(parents=True)
    place.write_bytes(Path(inception_file).read_bytes())
    monkeypatch.setattr(torch.jit, 'load', lambda *args, **kwargs: pytest.fail('it was run'))
    with pytest.raises(DownloadError, match=f'{StyleGANInception.sha256} expected'):
        StyleGANInception('https://example.org/inception.pt')


def test_files_that_are_not_the_torchscript(tmp_path, inception_file):
    (tmp_path / 'truncated.pt').write_bytes(Path(inception_file).read_bytes()[:1000])
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'foreign.pt'))
    for name in ('gone.pt', 'truncated.pt', 'foreign.pt'):
        with pytest.raises(DataError, match=name):
            StyleGANInception(str(tmp_path / name))


@pytest.mark.parametrize('extractor', [StyleGANInception, PyTorchFIDInception])
def test_the_published_file_is_the_default(monkeypatch, extractor):
    def no_network(*asked_for):
        assert asked_for == (extractor.url, extractor.sha256)
        raise DownloadError(extractor.url)

    monkeypatch.setattr('mmsagan.evaluation.extractors.cached_file', no_network)
    with pytest.raises(DownloadError):
        extractor()


@pytest.fixture(scope='module')
def pytorch_weights(tmp_path_factory) -> tuple[str, InceptionV3]:
    torch.manual_seed(1)
    network, path = InceptionV3(), tmp_path_factory.mktemp('weights') / 'inception.pth'
    for value in network.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)  # by PyTorch's defaults, the features would all but vanish
    torch.save(network.state_dict(), path)
    return str(path), network


def test_pytorch_fid(pytorch_weights):
    path, network = pytorch_weights
    extractor = PyTorchFIDInception(path).eval()
    scaled = 2 * F.interpolate(IMAGES.float() / 255, size=(299, 299), mode='bilinear', align_corners=False) - 1
    features, logits = network(scaled[:1])
    results = extractor(IMAGES[:1])
    torch.testing.assert_close(results['features'], features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(results['probabilities'], logits.softmax(1), rtol=1e-3, atol=1e-6)


def test_only_the_batch_counts_may_be_missing_in_weights(tmp_path):
    # Unlike a plain dict, a state dict keeps its version, by which batch norm tells that the counts should be there.
    path, weights = tmp_path / 'some.pth', DigitsExtractor().state_dict()
    for name in [name for name in weights if name.endswith('num_batches_tracked')]:
        del weights[name]
    torch.save(weights, path)
    assert torch.equal(DigitsExtractor(str(path))(IMAGES)['features'], DigitsExtractor()(IMAGES)['features'])
    del weights['trunk.1.running_mean']
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match='some.pth.*trunk.1.running_mean'):
        DigitsExtractor(str(path))


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


def test_names_tell_extractors_apart():
    alike = [FeatureSource.from_config(None, style) for style in ('PyTorch', 'pytorch')]
    other = FeatureSource.from_config(dict(type='DigitsExtractor'))
    assert len({*alike, other}) == 2, 'equal ones run once'
    assert (alike[0].suffix, other.suffix) == ('-PyTorch', '-digits') and alike[0].name != other.name


def test_unknown_extractors():
    for style in ('keras', None):
        with pytest.raises(ConfigError, match='inception_style'):
            FeatureSource.from_config(None, style)
    for config in (dict(type='Nothing'), 'digits', dict(type=DigitsExtractor), dict(fake_nums=1)):
        with pytest.raises(ConfigError, match='extractor='):
            FeatureSource.from_config(config)
