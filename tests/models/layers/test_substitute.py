import pytest
import torch
import torch.nn.functional as F

from mmsagan.errors import ConfigError
from mmsagan.models import ResidualAttentionSubstitute, SelfAttentionBlock
from mmsagan.models.layers.spectral_norm import spectral_norm_hook
from mmsagan.registry import MODELS


def num_parameters(block: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in block.parameters())


@pytest.mark.parametrize('channels', [8, 16, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize('with_spectral_norm', [True, False])
def test_it_is_of_the_size_of_attention(channels, with_spectral_norm):
    arguments = dict(in_channels=channels, with_spectral_norm=with_spectral_norm)
    blocks = [MODELS.build(dict(type=kind, **arguments)) for kind in ('ResidualAttentionSubstitute', 'SelfAttentionBlock')]
    # theta and phi C -> C/8, g C -> C/2, o C/2 -> C, and gamma.
    expected = channels**2 // 8 + channels**2 // 8 + channels**2 // 2 + channels**2 // 2 + 1
    assert [num_parameters(block) for block in blocks] == [expected, expected]


@pytest.mark.parametrize('channels, reductions', [(40, (8, 8)), (80, (4, 16)), (30, (2, 3))])
def test_other_reductions_that_fit(channels, reductions):
    arguments = dict(zip(('query_key_reduction', 'value_reduction'), reductions))
    sizes = {num_parameters(block(channels, **arguments)) for block in (ResidualAttentionSubstitute, SelfAttentionBlock)}
    assert len(sizes) == 1


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(in_channels=128, value_reduction=8), '128/8 [+] 128/8 is no multiple of 5; the default reductions, 8 and 2'),
        (dict(in_channels=12), 'divisible by 8 and 2.*got 12'),
    ],
)
def test_sizes_that_it_cannot_have(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ResidualAttentionSubstitute(**arguments)


def test_the_function():
    block = ResidualAttentionSubstitute(16, with_spectral_norm=False)
    x = torch.randn(2, 16, 6, 4)
    assert torch.equal(block(x), x), 'gamma starts at 0'
    torch.nn.init.constant_(block.gamma, 0.7)
    weights = [block.reduce.weight, block.expand.weight]
    assert [tuple(weight.shape) for weight in weights] == [(2, 16, 3, 3), (16, 2, 1, 1)]
    # The 3x3 convolution written out as a sum over shifts of the padded input.
    padded = F.pad(x.clamp(min=0), (1, 1, 1, 1))
    hidden = sum(
        torch.einsum('oc,nchw->nohw', weights[0][:, :, dy, dx], padded[:, :, dy : dy + 6, dx : dx + 4])
        for dy in range(3)
        for dx in range(3)
    )
    expected = x + 0.7 * torch.einsum('oc,nchw->nohw', weights[1][:, :, 0, 0], hidden.clamp(min=0))
    torch.testing.assert_close(block(x), expected)


def test_gamma_learns_and_the_layers_are_normalized():
    block = ResidualAttentionSubstitute(8, sn_eps=1e-6)
    block(torch.randn(1, 8, 4, 4)).square().sum().backward()
    assert block.gamma.grad.abs() > 0
    assert [spectral_norm_hook(layer).eps for layer in (block.reduce, block.expand)] == [1e-6, 1e-6]


def test_a_gan_with_it_trains(gan_config):
    cfg = gan_config()
    for network in ('generator', 'discriminator'):
        cfg[network]['attention_cfg'] = dict(type='ResidualAttentionSubstitute')
    model = MODELS.build(cfg)
    model.init_weights()
    images = model.generator(torch.randn(4, 16), label=torch.tensor([0, 1, 2, 0]))
    model.discriminator(images, torch.tensor([0, 1, 2, 0])).sum().backward()
    found = [module for module in model.modules() if isinstance(module, ResidualAttentionSubstitute)]
    assert len(found) == 2 and all(module.gamma.grad is not None for module in found)
