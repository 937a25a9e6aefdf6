import numpy as np
import pytest
import torch

from mmsagan.errors import ConfigError, DataError
from mmsagan.models import SelfAttentionBlock
from mmsagan.models.attention_maps import AttentionMaps, pixel_maps, sample_attention
from mmsagan.registry import MODELS

QUERIES = torch.tensor([[[0, 0], [31, 0], [5, 22]], [[3, 31], [17, 16], [16, 17]]])


@pytest.fixture
def make_gan(gan_config, settle):
    """Makes a GAN with attention after some up-blocks: make_gan([1, 3], pool=False)."""

    def make(after_nth_block=2, ema: bool = False, **attention):
        config = gan_config(**(dict(ema_config=dict(momentum=0.9)) if ema else {}))
        config['generator'].update(
            attention_after_nth_block=after_nth_block, attention_cfg=dict(type='SelfAttentionBlock', **attention)
        )
        return settle(MODELS.build(config))

    return make


def normalized(layer) -> np.ndarray:
    """A spectrally normalized 1x1 convolution's weight (out, in), written out."""
    weight, u, v = (tensor.detach().double().numpy() for tensor in (layer.weight_orig, layer.weight_u, layer.weight_v))
    weight = weight[:, :, 0, 0]
    return weight / (u @ weight @ v)


def written_out(block: SelfAttentionBlock, x: np.ndarray, query: tuple[int, int]) -> np.ndarray:
    """Equation 1 for one image's features (C, h, w) and one query, a pixel of 32x32: a map (32, 32)."""
    size = x.shape[-1]
    keys = np.einsum('oc,chw->ohw', normalized(block.phi), x)
    if block.pool:
        keys = keys.reshape(len(keys), size // 2, 2, size // 2, 2).max(axis=(2, 4))
    column, row = query[0] // (32 // size), query[1] // (32 // size)
    scores = np.einsum('o,ohw->hw', normalized(block.theta) @ x[:, row, column], keys)
    weights = np.exp(scores) / np.exp(scores).sum()
    cell = 32 // len(weights)
    return np.kron(weights, np.ones((cell, cell))) / cell**2


@pytest.mark.parametrize('pool, value_reduction', [(True, 2), (False, 8)], ids=['official', 'paper'])
def test_maps_of_several_layers_equal_the_formula(make_gan, pool, value_reduction):
    model = make_gan([1, 2, 3], pool=pool, value_reduction=value_reduction)
    noise, label = torch.randn(2, 16), torch.tensor([0, 2])
    result = sample_attention(model, noise, label, QUERIES)
    assert list(result.maps) == ['feat8', 'feat16', 'feat32']

    generator = model.generator.eval()
    x, found = generator.noise2feat(noise).unflatten(1, (-1, 4, 4)), 0
    with torch.no_grad():
        for block in generator.conv_blocks:
            if not isinstance(block, SelfAttentionBlock):
                x = block(x, label)
                continue
            maps, features = result.maps[f'feat{x.shape[-1]}'], x.double().numpy()
            assert maps.shape == (2, 3, 32, 32) and maps.dtype == torch.float32
            for image in range(2):
                for number, query in enumerate(QUERIES[image].tolist()):
                    expected = written_out(block, features[image], query)
                    np.testing.assert_allclose(maps[image, number], expected, rtol=1e-4, atol=1e-8)
            x, found = block(x), found + 1
    assert found == 3


@pytest.mark.parametrize('pool', [True, False])
def test_maps_sum_to_one(make_gan, pool):
    result = sample_attention(make_gan([2, 3], pool=pool), torch.randn(2, 16), torch.tensor([1, 1]), QUERIES)
    for maps in result.maps.values():
        torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 3))
        assert maps.min() >= 0 and maps.std() > 0


def test_a_query_is_the_location_under_its_pixel():
    """Each location attends to itself alone; so does the pixel, to its square."""
    block = SelfAttentionBlock(16, with_spectral_norm=False, query_key_reduction=1, pool=False)
    for layer in (block.theta, block.phi):
        layer.weight.data = torch.eye(16)[:, :, None, None] * 10
    features = torch.eye(16).reshape(1, 16, 4, 4)
    queries = torch.tensor([[[0, 0], [7, 0], [3, 5], [6, 7]]])
    maps = pixel_maps(block, features, queries, (8, 8))
    for (x, y), attention in zip(queries[0].tolist(), maps[0]):
        expected = torch.zeros(8, 8)
        expected[y // 2 * 2 : y // 2 * 2 + 2, x // 2 * 2 : x // 2 * 2 + 2] = 1 / 4
        torch.testing.assert_close(attention, expected, atol=1e-6, rtol=0)


def test_only_the_wanted_rows_are_computed(make_gan, monkeypatch):
    model, shapes, attention = make_gan([2, 3]), [], SelfAttentionBlock.attention

    def spy(block, x, queries=None):
        weights = attention(block, x, queries)
        if queries is not None:
            shapes.append(tuple(weights.shape))
        return weights

    monkeypatch.setattr(SelfAttentionBlock, 'attention', spy)
    sample_attention(model, torch.randn(2, 16), torch.tensor([1, 1]), QUERIES)
    assert shapes == [(2, 3, 64), (2, 3, 256)]


@pytest.mark.parametrize('sample_model', ['ema', 'orig'])
def test_a_model_in_training_stays_as_it_is(make_gan, sample_model):
    model = make_gan(ema=True).train()  # the averaged generator has the weights as they were initialized
    for name, buffer in model.generator.named_buffers():
        if name.endswith(('weight_u', 'weight_v')):  # spectral norms that would still move
            buffer.copy_(torch.nn.functional.normalize(torch.rand_like(buffer), dim=0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    result = sample_attention(model, torch.ones(2, 16), torch.tensor([1, 1]), QUERIES, sample_model)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.generator.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules() if isinstance(module, SelfAttentionBlock))
    other_model = dict(ema='orig', orig='ema')[sample_model]
    other = sample_attention(model, torch.ones(2, 16), torch.tensor([1, 1]), QUERIES, other_model)
    assert not torch.equal(result.maps['feat16'], other.maps['feat16'])


@pytest.mark.parametrize('sampled_before', [False, True])
def test_within_frozen_sampling(make_gan, sampled_before):
    """Samples come from a copy there, which has layers of its own."""
    model = make_gan()
    noise, label = torch.randn(2, 16), torch.tensor([0, 2])
    expected = sample_attention(model, noise, label, QUERIES)
    with model.inference_copy():
        if sampled_before:
            model.sample(noise, label)
        found = sample_attention(model, noise, label, QUERIES)
    assert torch.equal(found.maps['feat16'], expected.maps['feat16']) and torch.equal(found.images, expected.images)


def test_queries_chosen_from_the_images(make_gan):
    seen = []
    result = sample_attention(
        make_gan(), torch.randn(2, 16), torch.tensor([1, 2]), lambda images: seen.append(images) or QUERIES
    )
    assert torch.equal(seen[0], result.images) and result.images.dtype == torch.uint8
    assert torch.equal(result.queries, QUERIES)


@pytest.mark.parametrize(
    'queries, message',
    [
        (torch.tensor([[[0, 0], [32, 5]]]), 'query 32,5 lies outside the image: x goes from 0 to 31, y from 0 to 31'),
        (torch.tensor([[[0, -1]]]), 'query 0,-1 lies outside'),
        (torch.zeros(2, 3, 2, dtype=torch.long), r'shape \(1, Q, 2\), got \(2, 3, 2\)'),
        (torch.zeros(1, 0, 2, dtype=torch.long), r'shape \(1, Q, 2\), got \(1, 0, 2\)'),
    ],
)
def test_wrong_queries(make_gan, queries, message):
    with pytest.raises(ConfigError, match=message):
        sample_attention(make_gan(), torch.randn(1, 16), torch.tensor([1]), queries)


def test_a_generator_without_attention(make_gan):
    with pytest.raises(ConfigError, match='SAGANGenerator has no attention layer'):
        sample_attention(make_gan(0), torch.randn(1, 16), torch.tensor([1]), QUERIES[:1])


def test_a_diverged_generator(make_gan):
    with pytest.raises(DataError, match='diverged'):
        sample_attention(make_gan(), torch.full((1, 16), torch.nan), torch.tensor([1]), QUERIES[:1])


def test_choosing_layers():
    maps = dict(feat16=torch.zeros(1), feat32=torch.ones(1))
    attention = AttentionMaps(torch.zeros(1), torch.zeros(1), maps)
    assert attention.select('last') == {'feat32': maps['feat32']} and attention.select('feat16') == {'feat16': maps['feat16']}
    assert attention.select('all') == maps
    with pytest.raises(ConfigError, match="no attention layer 'feat8'; choose 'last', 'all' or one of feat16, feat32"):
        attention.select('feat8')
