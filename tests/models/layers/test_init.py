from math import sqrt

import pytest
import torch
from torch import nn

from mmsagan.models import ProjDiscriminator, SAGANGenerator
from mmsagan.models.layers.blocks import ConditionalBatchNorm2d
from mmsagan.models.layers.spectral_norm import sigma, spectral_norm_hook


def build(scheme: str, **kwargs):
    generator = SAGANGenerator(32, 5, 16, attention_after_nth_block=2, init_cfg=dict(type=scheme), **kwargs)
    discriminator = ProjDiscriminator(32, 5, 16, attention_after_nth_block=1, init_cfg=dict(type=scheme), **kwargs)
    for network in (generator, discriminator):
        network.init_weights()
    return generator, discriminator


def weight_of(layer) -> torch.Tensor:
    return getattr(layer, 'weight_orig', layer.weight).detach()


def xavier_bound(weight: torch.Tensor, gain: float) -> float:
    receptive = weight[0, 0].numel() if weight.dim() > 2 else 1
    return gain * sqrt(6 / ((weight.shape[0] + weight.shape[1]) * receptive))


def assert_xavier(weight: torch.Tensor, gain: float):
    """Uniform in the bound: the largest value comes close to it, and none is beyond."""
    bound = xavier_bound(weight, gain)
    assert weight.abs().max() <= bound
    if weight.numel() > 100:
        assert weight.abs().max() > 0.95 * bound


@pytest.mark.parametrize('channels_last', [False, True])
def test_studio_is_orthogonal_with_zero_bias(channels_last):
    generator, discriminator = build('studio')
    if channels_last:
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last).init_weights()
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                matrix = weight_of(module).flatten(1)
                gram = matrix @ matrix.t() if matrix.shape[0] <= matrix.shape[1] else matrix.t() @ matrix
                torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-4, rtol=0)
                if getattr(module, 'bias', None) is not None:
                    assert not module.bias.any()


@pytest.mark.parametrize('scheme, gain3, zero_bias', [('BigGAN', 1, False), ('SAGAN', 1, True), ('SNGAN', sqrt(2), True)])
def test_xavier_schemes(scheme, gain3, zero_bias):
    generator, discriminator = build(scheme)
    embeddings = {
        id(e)
        for m in generator.modules()
        if isinstance(m, ConditionalBatchNorm2d)
        for e in (m.weight_embedding, m.bias_embedding)
    }
    for network in (generator, discriminator):
        for module in network.modules():
            if not isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                continue
            if id(module) in embeddings and scheme != 'BigGAN':
                continue
            is3x3 = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
            assert_xavier(weight_of(module), gain3 if is3x3 and module is not generator.to_rgb.conv else 1)
            if getattr(module, 'bias', None) is not None:
                assert module.bias.any() != zero_bias


@pytest.mark.parametrize('scheme, offset', [('studio', 1), ('BigGAN', 1), ('SAGAN', 0), ('SNGAN', 0)])
def test_conditional_norms(scheme, offset):
    generator, _ = build(scheme)
    norms = [module for module in generator.modules() if isinstance(module, ConditionalBatchNorm2d)]
    assert len(norms) == 6
    for norm in norms:
        assert norm.weight_offset == offset
        starts_at_one = torch.equal(weight_of(norm.weight_embedding), torch.ones(5, 16))
        assert starts_at_one == (offset == 0)
        assert weight_of(norm.bias_embedding).any() == (offset == 1)


def test_spectral_norms_are_settled():
    generator, _ = build('BigGAN', with_spectral_norm=True)
    normalized = [module for module in generator.modules() if spectral_norm_hook(module)]
    # Linear, three blocks of three convolutions and four embeddings, four in the attention, and the image layer.
    assert len(normalized) == 1 + 3 * 7 + 4 + 1
    for module in normalized:
        expected = torch.linalg.matrix_norm(weight_of(module).flatten(1), 2)
        assert 0.85 * expected < sigma(module) <= 1.0001 * expected
