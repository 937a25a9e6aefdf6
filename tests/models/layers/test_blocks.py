"""Layers and residual blocks against what they are made of, written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsagan.models import ProjDiscriminator, SAGANGenerator
from mmsagan.models.layers import (
    ClassEmbedding,
    ConditionalBatchNorm2d,
    DiscriminatorBlock,
    DiscriminatorHeadBlock,
    DownsampleConv2d,
    GeneratorBlock,
    LayerFactory,
    UpsampleConv2d,
    set_fast,
    spectral_norm,
)

LABEL = torch.tensor([2, 0, 2])
ONE_HOT = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])

# ------------------------------------------------------------------------------------------------------ class embeddings


def test_labels_and_class_weights():
    embedding = ClassEmbedding(4, 6)
    rows = embedding.weight.detach()
    assert torch.equal(embedding(LABEL), rows[LABEL]) and torch.equal(embedding(ONE_HOT), rows[LABEL])
    weights = torch.rand(5, 4, dtype=torch.float64)
    expected = torch.stack([sum(w[i].float() * rows[i] for i in range(4)) for w in weights])
    torch.testing.assert_close(embedding(weights), expected)


def test_embedding_under_spectral_norm():
    embedding = spectral_norm(ClassEmbedding(4, 6)).eval()
    assert list(embedding.state_dict()) == list(spectral_norm(nn.Embedding(4, 6)).state_dict())
    sigma = embedding.weight_u @ embedding.weight_orig @ embedding.weight_v
    for label in (LABEL, ONE_HOT):
        torch.testing.assert_close(embedding(label), embedding.weight_orig[LABEL] / sigma)
    embedding.train()
    embedding(ONE_HOT).sum().backward()
    assert embedding.weight_orig.grad[1].abs().sum() > 0, 'through sigma, every class gets a gradient'
    assert torch.equal(copy.deepcopy(embedding).eval()(ONE_HOT), embedding.eval()(ONE_HOT))


@torch.no_grad()
@pytest.mark.parametrize('with_spectral_norm', [False, True])
def test_networks_take_class_weights(with_spectral_norm):
    generator = SAGANGenerator(32, 4, 8, noise_size=6, with_spectral_norm=with_spectral_norm).eval()
    discriminator = ProjDiscriminator(32, 4, 8, with_spectral_norm=with_spectral_norm).eval()
    noise, image = torch.randn(3, 6), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(generator(noise, ONE_HOT), generator(noise, LABEL))
    torch.testing.assert_close(discriminator(image, ONE_HOT), discriminator(image, LABEL))
    # The projection is linear in the label.
    mixed = discriminator(image, torch.full((3, 4), 0.25))
    each = [discriminator(image, torch.full((3,), label)) for label in range(4)]
    torch.testing.assert_close(mixed, sum(each) / 4, rtol=1e-4, atol=1e-4)


# ----------------------------------------------------------------------------------------------------------- batch norms


@pytest.mark.parametrize('offset', [0.0, 1.0])
@pytest.mark.parametrize('training', [True, False])
def test_conditional_batch_norm_equals_the_formula(offset, training):
    norm = nn.BatchNorm2d(3, eps=1e-4, affine=False)
    layer = ConditionalBatchNorm2d(norm, nn.Embedding(4, 3), nn.Embedding(4, 3), offset).train(training)
    x, label = torch.randn(5, 3, 4, 4) * 3 + 1, torch.tensor([0, 3, 3, 1, 2])
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    normalized = (x - mean[:, None, None]) / torch.sqrt(var + 1e-4)[:, None, None]
    scale = offset + layer.weight_embedding.weight[label]
    expected = normalized * scale[:, :, None, None] + layer.bias_embedding.weight[label][:, :, None, None]
    torch.testing.assert_close(layer(x, label), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    'distributed, cuda, expected',
    [(False, True, nn.BatchNorm2d), (True, True, nn.SyncBatchNorm), (True, False, nn.BatchNorm2d)],
)
def test_sync_bn_needs_processes_and_gpus(monkeypatch, distributed, cuda, expected):
    monkeypatch.setattr('mmsagan.models.layers.blocks.is_distributed', lambda: distributed)
    monkeypatch.setattr('mmsagan.models.layers.blocks.is_cuda_available', lambda: cuda)
    layer = LayerFactory(sync_bn=True, norm_eps=1e-5).batch_norm(4)
    assert type(layer) is expected and layer.eps == 1e-5 and layer.affine
    assert type(LayerFactory(sync_bn=False).batch_norm(4)) is nn.BatchNorm2d


# ------------------------------------------------------------------------------------------- convolutions that change the size


def plain_upsample(layer, x):
    return F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), layer.weight, layer.bias, padding=1)


def plain_downsample(layer, x):
    out = F.conv2d(x, layer.weight, layer.bias, padding=1)
    height, width = out.shape[2] // 2 * 2, out.shape[3] // 2 * 2
    out = out[..., :height, :width]
    return (out[..., ::2, ::2] + out[..., 1::2, ::2] + out[..., ::2, 1::2] + out[..., 1::2, 1::2]) / 4


@pytest.mark.parametrize('kind, reference', [(UpsampleConv2d, plain_upsample), (DownsampleConv2d, plain_downsample)])
@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('size', [(6, 10), (7, 5)])
def test_resampling_convolutions_equal_the_definition(kind, reference, fast, size):
    layer = set_fast(kind(5, 4), fast)
    x = torch.randn(2, size[0], size[1], 5).permute(0, 3, 1, 2).requires_grad_()
    out = layer(x)
    expected_layer = copy.deepcopy(layer)
    y = x.detach().clone().requires_grad_()
    expected = reference(expected_layer, y)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad, expected_layer.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.bias.grad, expected_layer.bias.grad, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------- residual blocks


def conv(layer, x):
    return F.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


@pytest.mark.parametrize('fast', [False, True])
def test_generator_block_equals_its_composition(fast):
    layers = LayerFactory(num_classes=3, with_spectral_norm=False, with_embedding_spectral_norm=False)
    block = set_fast(GeneratorBlock(4, 6, layers), fast)
    x, label = torch.randn(2, 4, 5, 5), torch.tensor([2, 0])
    out = F.relu(block.norm_1(x, label))
    out = conv(block.conv_1, F.interpolate(out, scale_factor=2))
    out = conv(block.conv_2, F.relu(block.norm_2(out, label)))
    expected = out + conv(block.shortcut, F.interpolate(x, scale_factor=2))
    torch.testing.assert_close(block(x, label), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('inplace', [False, True])
@pytest.mark.parametrize('channels, downsample', [((4, 6), True), ((4, 4), True), ((4, 6), False), ((4, 4), False)])
def test_discriminator_block_equals_its_composition(fast, inplace, channels, downsample):
    layers = LayerFactory(with_spectral_norm=False, act_cfg=dict(type='ReLU', inplace=inplace))
    block = set_fast(DiscriminatorBlock(*channels, layers, downsample=downsample), fast)
    x = torch.randn(2, 4, 6, 6)
    kept = x.clone()
    out = conv(block.conv_2, F.relu(conv(block.conv_1, F.relu(x))))
    # What the reference's in-place ReLU does to the shortcut's input.
    shortcut = F.relu(x) if inplace else x
    assert (block.shortcut is None) == (not downsample and channels[0] == channels[1])
    if block.shortcut is not None:
        shortcut = conv(block.shortcut, shortcut)
    expected = out + shortcut
    if downsample:
        expected = F.avg_pool2d(expected, 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, kept), 'the block must not change its input'


@pytest.mark.parametrize('fast', [False, True])
def test_head_block_equals_its_composition(fast):
    block = set_fast(DiscriminatorHeadBlock(3, 5, LayerFactory(with_spectral_norm=False)), fast)
    x = torch.randn(2, 3, 8, 8)
    out = F.avg_pool2d(conv(block.conv_2, F.relu(conv(block.conv_1, x))), 2)
    torch.testing.assert_close(block(x), out + conv(block.shortcut, F.avg_pool2d(x, 2)), rtol=1e-4, atol=1e-5)
