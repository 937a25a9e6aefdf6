import copy

import pytest
import torch
import torch.nn.functional as F

from mmsagan.models.layers import DownsampleConv2d, UpsampleConv2d, set_fast, spectral_norm


def plain_upsample(layer, x):
    return F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), layer.weight, layer.bias, padding=1)


def plain_downsample(layer, x):
    out = F.conv2d(x, layer.weight, layer.bias, padding=1)
    height, width = out.shape[2] // 2 * 2, out.shape[3] // 2 * 2
    out = out[..., :height, :width]
    return (out[..., ::2, ::2] + out[..., 1::2, ::2] + out[..., ::2, 1::2] + out[..., 1::2, 1::2]) / 4


@pytest.mark.parametrize('kind, reference', [(UpsampleConv2d, plain_upsample), (DownsampleConv2d, plain_downsample)])
@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('size', [(8, 8), (6, 10), (7, 5)])
def test_both_ways_equal_the_definition(kind, reference, fast, size):
    layer = set_fast(kind(5, 4), fast)
    x = torch.randn(2, 5, *size, requires_grad=True)
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


@pytest.mark.parametrize('kind', [UpsampleConv2d, DownsampleConv2d])
def test_non_contiguous_input_and_spectral_norm(kind):
    plain = set_fast(spectral_norm(kind(3, 4)).eval(), False)
    fast = spectral_norm(kind(3, 4)).eval()
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 8, 8, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)
