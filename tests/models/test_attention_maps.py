import numpy as np
import pytest
import torch

from mmsagan.errors import ConfigError, DataError
from mmsagan.models import SelfAttentionBlock
from mmsagan.models.attention_maps import AttentionMaps, sample_attention
from mmsagan.registry import MODELS

QUERIES = torch.tensor([[[0, 0], [31, 0], [5, 22]], [[3, 31], [17, 16], [16, 17]]])


@pytest.fixture
def make_gan(gan_config, settle):
    """Makes a GAN with attention after some up-blocks: make_gan([1, 3], pool=False)."""

    def make(after_nth_block=2, ema: bool = False, **attention):
        config = gan_config(
            generator=dict(
                attention_after_nth_block=after_nth_block, attention_cfg=dict(type='SelfAttentionBlock', **attention)
            ),
            ema_config=dict(momentum=0.9) if ema else None,
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
def test_maps_of_several_layers_equal_the_formula(make_gan, monkeypatch, pool, value_reduction):
    model = make_gan([1, 2, 3], pool=pool, value_reduction=value_reduction)
    noise, label = torch.randn(2, 16), torch.tensor([0, 2])
    shapes, attention = [], SelfAttentionBlock.attention

    def spy(block, x, queries=None):
        weights = attention(block, x, queries)
        if queries is not None:
            shapes.append(tuple(weights.shape))
        return weights

    monkeypatch.setattr(SelfAttentionBlock, 'attention', spy)
    result = sample_attention(model, noise, label, QUERIES)
    assert list(result.maps) == ['feat8', 'feat16', 'feat32']
    assert shapes == [(2, 3, size**2 // (4 if pool else 1)) for size in (8, 16, 32)], 'only rows of queries are computed'

    generator = model.generator.eval()
    x, found = generator.noise2feat(noise).unflatten(1, (-1, 4, 4)), 0
    with torch.no_grad():
        for block in generator.conv_blocks:
            if not isinstance(block, SelfAttentionBlock):
                x = block(x, label)
                continue
            maps, features = result.maps[f'feat{x.shape[-1]}'], x.double().numpy()
            assert maps.shape == (2, 3, 32, 32) and maps.dtype == torch.float32
            torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 3))
            for image in range(2):
                for number, query in enumerate(QUERIES[image].tolist()):
                    expected = written_out(block, features[image], query)
                    np.testing.assert_allclose(maps[image, number], expected, rtol=1e-4, atol=1e-8)
            x, found = block(x), found + 1
    assert found == 3


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
    with model.inference_copy():  # samples come from a copy there, which has layers of its own
        model.sample(torch.ones(2, 16), torch.tensor([1, 1]), sample_model=sample_model)
        again = sample_attention(model, torch.ones(2, 16), torch.tensor([1, 1]), lambda images: QUERIES, sample_model)
    assert torch.equal(result.maps['feat16'], again.maps['feat16']) and torch.equal(result.images, again.images)
    assert again.images.dtype == torch.uint8 and torch.equal(again.queries, QUERIES)
    other = sample_attention(
        model, torch.ones(2, 16), torch.tensor([1, 1]), QUERIES, dict(ema='orig', orig='ema')[sample_model]
    )
    assert not torch.equal(result.maps['feat16'], other.maps['feat16'])


@pytest.mark.parametrize(
    'after, noise, queries, error, message',
    [
        (2, 0.0, torch.tensor([[[0, 0], [32, 5]]]), ConfigError, 'query 32,5'),
        (2, 0.0, torch.zeros(2, 3, 2, dtype=torch.long), ConfigError, r'\(1, Q, 2\), got \(2, 3, 2\)'),
        (0, 0.0, QUERIES[:1], ConfigError, 'SAGANGenerator'),
        (2, torch.nan, QUERIES[:1], DataError, 'diverged'),
    ],
)
def test_what_cannot_be_shown(gan_config, after, noise, queries, error, message):
    model = MODELS.build(gan_config(generator=dict(attention_after_nth_block=after)))
    with pytest.raises(error, match=message):
        sample_attention(model, torch.full((1, 16), noise), torch.tensor([1]), queries)


def test_choosing_layers():
    maps = dict(feat16=torch.zeros(1), feat32=torch.ones(1))
    attention = AttentionMaps(torch.zeros(1), torch.zeros(1), maps)
    assert attention.select('last') == {'feat32': maps['feat32']} and attention.select('feat16') == {'feat16': maps['feat16']}
    assert attention.select('all') == maps
    with pytest.raises(ConfigError, match='feat8.*feat16, feat32'):
        attention.select('feat8')
