import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_inception_v3 import recipe_weights

from mmsagan.datasets import EmbeddedMNIST
from mmsagan.errors import CheckpointError, ConfigError, DataError, DownloadError
from mmsagan.evaluation import (
    DigitsExtractor,
    InceptionScore,
    PyTorchFIDInception,
    RealImages,
    StyleGANInception,
    extractors,
    save_statistics,
)
from mmsagan.evaluation.extractors import CLIPExtractor, DINOv2Extractor, FeatureSource, VGG16Extractor, resize_pillow
from mmsagan.evaluation.moments import Statistics
from mmsagan.registry import METRICS

# Printed by tests/data/reference_values.py: what the sources of the modes, and of the features, compute.
REFERENCE = {
    'pixels': {
        'legacy': [[159.0, 124.0, 40.3788, 59.0, 143.0], [84.9507, 112.768, 170.484, 137.737, 173.578]],
        'tensorflow': [[159.0, 122.898, 7.81824, 58.1338, 143.0], [95.0571, 106.252, 164.818, 138.869, 167.746]],
        'clean': [[154.145, 129.039, 9.95069, 69.8741, 131.476], [81.3277, 100.542, 157.214, 135.204, 167.151]],
        'friendly': [[159.0, 124.0, 40.3788, 59.0, 143.0], [90.7473, 108.728, 146.488, 139.784, 169.041]],
    },
    'features': {
        'legacy': [0.0493089, 0.0301171, 0.470501, 0.0635369, 0.0363654, 0.549774],
        'tensorflow': [0.0588274, 0.0255223, 0.51156, 0.0651138, 0.0401467, 0.477795],
        'clean': [0.0572301, 0.0326649, 0.51005, 0.0602281, 0.0449696, 0.643654],
        'friendly': [0.0493089, 0.0301169, 0.470502, 0.0635365, 0.0363655, 0.549773],
    },
    'spatial': [0.0, 0.0753449, 0.0, 0.0, 5.39827, 2.08308, 0.0, 1.02626, 0.0, 0.0, 5.11507, 2.05846],
    'dinov2': [-1.41557, 1.03138, 0.576083, 1.22759, -1.3333, 1.16446, 0.509953, 1.03062],
    'clip': [-0.71527, 0.568292, 0.695495, -0.710738, -0.855846, 0.704213, 0.773613, -0.550372],
}
SIZES = (9, 7), (400, 331)  # heights and widths of images that are enlarged, and reduced
POINTS = [0, 1, 100, 297, 298], [298, 2, 77, 1, 298]  # rows and columns

# Small models of transformers' classes
DINOV2 = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=392, patch_size=56)
CLIP = dict(hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, patch_size=56, projection_dim=8)


def random_images(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(5).randint(0, 256, (2, 3, height, width)).astype(np.uint8))


def layout_of(model: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights as the models are published."""
    if model == 'dinov2':
        layout = {f'embeddings.{name}_token': (1,) * ones + (16,) for name, ones in (('cls', 2), ('mask', 1))}
        layout |= {'embeddings.position_embeddings': (1, 50, 16), 'embeddings.patch_embeddings.projection.bias': (16,)}
        layout |= {'embeddings.patch_embeddings.projection.weight': (16, 3, 56, 56)}
        prefix, norms = 'encoder.layer', ('norm1', 'norm2')
        attention = [f'attention.{name}' for name in ('attention.query', 'attention.key', 'attention.value', 'output.dense')]
        ends = ('layernorm',)
        layout |= {f'{prefix}.{layer}.layer_scale{number}.lambda1': (16,) for layer in range(2) for number in (1, 2)}
    else:
        layout = {'vision_model.embeddings.class_embedding': (16,), 'visual_projection.weight': (8, 16)}
        layout |= {'vision_model.embeddings.patch_embedding.weight': (16, 3, 56, 56)}
        layout |= {'vision_model.embeddings.position_embedding.weight': (17, 16)}
        prefix, norms = 'vision_model.encoder.layers', ('layer_norm1', 'layer_norm2')
        attention = [f'self_attn.{name}_proj' for name in ('q', 'k', 'v', 'out')]
        ends = ('vision_model.pre_layrnorm', 'vision_model.post_layernorm')
    for layer in (f'{prefix}.{number}.' for number in range(2)):
        shapes = {**dict.fromkeys(attention, (16, 16)), 'mlp.fc1': (64, 16), 'mlp.fc2': (16, 64)}
        layout |= {f'{layer}{name}.weight': shape for name, shape in shapes.items()}
        layout |= {f'{layer}{name}.bias': shape[:1] for name, shape in shapes.items()}
        layout |= {f'{layer}{name}.{end}': (16,) for name in norms for end in ('weight', 'bias')}
    return layout | {f'{name}.{end}': (16,) for name in ends for end in ('weight', 'bias')}


def random_weights(layout: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    random = np.random.RandomState(0)
    weights = {name: random.standard_normal(shape) for name, shape in sorted(layout.items())}
    # Patches must not drown their positions, which are interpolated.
    scales = {name: 0.01 if shape[-1] == 56 else 0.5 for name, shape in layout.items()}
    return {name: torch.from_numpy((scales[name] * value).astype(np.float32)) for name, value in weights.items()}


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
    torch.testing.assert_close(VGG16Extractor(inception_file)(IMAGES + 0.3), extractor(IMAGES))  # floats are rounded
    features, probabilities = script(IMAGES, return_features=True), script(IMAGES, no_output_bias=True)
    torch.testing.assert_close(extractor(IMAGES, ('features',)), dict(features=features))
    torch.testing.assert_close(extractor(IMAGES, ('probabilities',)), dict(probabilities=probabilities))
    both = extractor(IMAGES, ('features', 'probabilities'))
    torch.testing.assert_close(both, dict(features=features, probabilities=probabilities))


@pytest.mark.parametrize('extractor', [StyleGANInception, VGG16Extractor])
def test_torchscript_from_the_web_is_the_published_one_or_is_not_run(tmp_path, monkeypatch, inception_file, extractor):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    place = tmp_path / 'hub' / 'mmsagan' / 'example.org' / 'inception.pt'
    place.parent.mkdir(parents=True)
    place.write_bytes(Path(inception_file).read_bytes())
    monkeypatch.setattr(torch.jit, 'load', lambda *args, **kwargs: pytest.fail('it was run'))
    with pytest.raises(DownloadError, match=f'{extractor.sha256} expected'):
        extractor('https://example.org/inception.pt')


@pytest.mark.parametrize('extractor', [StyleGANInception, VGG16Extractor])
def test_files_that_are_not_the_torchscript(tmp_path, inception_file, extractor):
    (tmp_path / 'truncated.pt').write_bytes(Path(inception_file).read_bytes()[:1000])
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'foreign.pt'))
    for name in ('gone.pt', 'truncated.pt', 'foreign.pt'):
        with pytest.raises(DataError, match=name):
            extractor(str(tmp_path / name))


@pytest.mark.parametrize('extractor', [StyleGANInception, PyTorchFIDInception, VGG16Extractor])
def test_the_published_file_is_the_default(monkeypatch, extractor):
    def no_network(*asked_for):
        assert asked_for == (extractor.url, extractor.sha256)
        raise DownloadError(extractor.url)

    monkeypatch.setattr('mmsagan.evaluation.extractors.cached_file', no_network)
    with pytest.raises(DownloadError):
        extractor()


@pytest.fixture(scope='module')
def inception_weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('weights') / 'inception.pth'
    torch.save(recipe_weights(), path)
    return str(path)


@pytest.mark.parametrize('mode', PyTorchFIDInception.resize_modes)
def test_resizing_modes_give_what_their_sources_give(mode, inception_weights):
    extractor = PyTorchFIDInception(inception_weights, resize=mode)
    for size, expected in zip(SIZES, REFERENCE['pixels'][mode]):
        resized = extractor.resize(random_images(*size).float())
        assert resized.shape == (2, 3, 299, 299)
        torch.testing.assert_close(resized[1, 2][POINTS], torch.tensor(expected), rtol=0, atol=0.02)
    images = random_images(32, 32)
    with torch.no_grad():
        results = extractor(images)
        brighter = extractor(images + 0.4)['features']
    torch.testing.assert_close(
        results['features'][:, :3].flatten(), torch.tensor(REFERENCE['features'][mode]), rtol=1e-3, atol=1e-4
    )
    assert not torch.allclose(brighter, results['features'], rtol=1e-3), 'floats are not rounded'
    if mode == 'tensorflow':  # guided-diffusion's
        spatial = results['spatial'][:, [0, 1, 6, 7, 1000, 2022]].flatten()
        assert results['spatial'].shape == (2, 7 * 17 * 17)
        torch.testing.assert_close(spatial, torch.tensor(REFERENCE['spatial']), rtol=1e-3, atol=1e-3)


def test_pillow_has_one_pool_of_the_cores_of_this_process(monkeypatch):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    monkeypatch.setattr(extractors.os, 'sched_getaffinity', lambda process: set(range(12)), raising=False)
    extractors._pillow_threads.cache_clear()
    pool = extractors._pillow_threads()
    assert pool._max_workers == 3 and extractors._pillow_threads() is pool
    extractors._pillow_threads.cache_clear()


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
    for stated, mode in (('legacy', None), ('clean', 'legacy')):
        alike.append(FeatureSource.from_config(dict(type='PyTorchFIDInception', resize=stated), resize=mode))
    other = FeatureSource.from_config(dict(type='DigitsExtractor'))
    assert len({*alike, other}) == 2, 'equal ones run once'
    assert (alike[0].suffix, other.suffix) == ('-PyTorch', '-digits') and alike[0].name != other.name


@pytest.mark.parametrize(
    'metric, options, prefix',
    [
        ('FID', dict(), 'FID'),
        ('FID', dict(inception_style='VGG16'), 'FD-vgg16'),
        ('FID', dict(inception_style='DigitsExtractor'), 'FID-digits'),
        ('FID', dict(inception_style='dinov2'), 'FD-dinov2'),
        ('FID', dict(inception_style='clip', inception_path='models/clip-vit-base-patch32'), 'FD-clip'),
        ('FID', dict(extractor=dict(type='clip', path='openai/clip-vit-large-patch14')), 'FD-clip-vit-large-patch14'),
        ('KID', dict(inception_style='dinov2', inception_path='a_folder/dinov2-large'), 'KID-dinov2'),
        ('FID', dict(inception_style='PyTorch', resize_mode='clean'), 'FID-PyTorch-clean'),
        ('FID', dict(inception_style='PyTorch', resize_mode='clean', prefix='FID-50k'), 'FID-50k-PyTorch-clean'),
        ('FID', dict(inception_style='PyTorch', prefix='FID-50k'), 'FID-50k'),
        ('IS', dict(extractor=dict(type='PyTorchFIDInception', resize='friendly')), 'IS-PyTorch-friendly'),
        ('sFID', dict(), 'sFID'),
        ('sFID', dict(extractor=dict(type='PyTorchFIDInception')), 'sFID-PyTorch'),
        # MMGeneration's and MMagic's precision and recall are of VGG16.
        ('PR', dict(), 'PR'),
        ('PrecisionAndRecall', dict(prefix='PR-50k'), 'PR-50k'),
        ('PR', dict(inception_style='StyleGAN'), 'PR-inception'),
        ('PR', dict(inception_style='StyleGAN', prefix='PR-50k'), 'PR-50k-inception'),
        ('PR', dict(inception_style='PyTorch'), 'PR-PyTorch'),
    ],
)
def test_results_are_named_after_features(metric, options, prefix):
    assert METRICS.build(dict(type=metric, **options)).prefix == prefix


@pytest.fixture
def transformer_folder(tmp_path) -> Callable[[str], str]:
    """Writes a small model as it would be published, of random weights: transformer_folder('dinov2')."""
    transformers = pytest.importorskip('transformers')

    def write(model: str) -> str:
        config = transformers.Dinov2Config(**DINOV2) if model == 'dinov2' else transformers.CLIPVisionConfig(**CLIP)
        config.save_pretrained(tmp_path / model)
        save_file(random_weights(layout_of(model)), tmp_path / model / 'model.safetensors', metadata=dict(format='pt'))
        return str(tmp_path / model)

    return write


@pytest.mark.parametrize('model, extractor', [('dinov2', DINOv2Extractor), ('clip', CLIPExtractor)])
def test_transformers(model, extractor, transformer_folder):
    network = extractor(path=transformer_folder(model)).eval()
    with torch.no_grad():
        features = network(random_images(32, 32))['features']
        torch.testing.assert_close(network(random_images(32, 32) + 0.3)['features'], features)  # floats are rounded
    torch.testing.assert_close(features[:, :4].flatten(), torch.tensor(REFERENCE[model]), rtol=1e-4, atol=1e-5)


def test_transformers_that_cannot_be_loaded(tmp_path, transformer_folder, monkeypatch):
    folder = Path(transformer_folder('clip'))
    with pytest.raises(DataError, match='gone'):
        CLIPExtractor(path=str(tmp_path / 'gone'))
    with pytest.raises(DataError, match='clip.*Dinov2Model'):  # it would start from random weights
        DINOv2Extractor(path=str(folder))
    (folder / 'model.safetensors').unlink()
    torch.save(random_weights(layout_of('clip')), folder / 'pytorch_model.bin')
    with pytest.raises(DataError, match='safetensors'):
        CLIPExtractor(path=str(folder))
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ConfigError, match=r'mmsagan\[features\]'):
        CLIPExtractor(path=str(folder))


def test_precision_and_recall_are_of_vgg16():
    metric = METRICS.build(dict(type='PR'))
    assert metric.source.kind is VGG16Extractor


@pytest.mark.parametrize(
    'metric, options, named',
    [
        ('FID', dict(inception_style='PyTorch', resize_mode='cubic'), 'cubic'),
        ('FID', dict(resize_mode='clean'), 'StyleGANInception'),
        ('IS', dict(inception_style='vgg16'), 'probabilities'),
        ('sFID', dict(inception_style='digits', resize_mode=None), 'resize_mode'),
    ],
)
def test_what_an_extractor_does_not_have(metric, options, named):
    with pytest.raises(ConfigError, match=named):
        METRICS.build(dict(type=metric, **options))


def test_statistics_of_other_resizes_and_outputs_have_their_own_files(tmp_path):
    path = tmp_path / 'real.pkl'
    names = set()
    for options in (dict(type='FID'), dict(type='FID', inception_style='PyTorch', resize_mode='tensorflow'), dict(type='sFID')):
        metric = METRICS.build(dict(options))
        metric.use_shared_pkl(str(path))
        names.add(metric.inception_pkl)
    assert len(names) == 3
    save_statistics(Statistics(np.zeros(2), np.eye(2), 10, metric.source.name, 'some'), path)
    metric.use_shared_pkl(str(path))
    assert metric.inception_pkl != str(path), 'which has features that are not spatial'
    other = METRICS.build(dict(type='FID', inception_style='PyTorch', inception_pkl=str(path)))
    with pytest.raises(ConfigError, match='tensorflow'):
        other.check(2, None, None)


def test_unknown_extractors():
    for style in ('keras', None):
        with pytest.raises(ConfigError, match='inception_style'):
            FeatureSource.from_config(None, style)
    for config in (dict(type='Nothing'), 'digits', dict(type=DigitsExtractor), dict(fake_nums=1), dict(type='digits', no=1)):
        with pytest.raises(ConfigError, match='extractor='):
            FeatureSource.from_config(config)
