import pytest
import torch
import torch.nn.functional as F

from mmsagan.models.layers import DiscriminatorBlock, DiscriminatorHeadBlock, GeneratorBlock, LayerFactory, set_fast


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
