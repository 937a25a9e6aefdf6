import copy

import pytest
import torch
from torch import nn

from mmsagan.models import ProjDiscriminator, SAGANGenerator
from mmsagan.models.layers import ClassEmbedding, LayerFactory, spectral_norm

LABEL = torch.tensor([2, 0, 2])
ONE_HOT = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])


def test_labels_and_class_weights():
    embedding = ClassEmbedding(4, 6)
    rows = embedding.weight.detach()
    assert torch.equal(embedding(LABEL), rows[LABEL]) and torch.equal(embedding(ONE_HOT), rows[LABEL])
    weights = torch.rand(5, 4, dtype=torch.float64)
    expected = torch.stack([sum(w[i].float() * rows[i] for i in range(4)) for w in weights])
    torch.testing.assert_close(embedding(weights), expected)


def test_under_spectral_norm():
    embedding = spectral_norm(ClassEmbedding(4, 6)).eval()
    sigma = embedding.weight_u @ embedding.weight_orig @ embedding.weight_v
    for label in (LABEL, ONE_HOT):
        torch.testing.assert_close(embedding(label), embedding.weight_orig[LABEL] / sigma)
    embedding.train()
    embedding(ONE_HOT).sum().backward()
    assert embedding.weight_orig.grad[1].abs().sum() > 0, 'by way of sigma, every class gets a gradient'
    assert torch.equal(copy.deepcopy(embedding).eval()(ONE_HOT), embedding.eval()(ONE_HOT))


@pytest.mark.parametrize('with_spectral_norm', [False, True])
def test_checkpoints_of_plain_embeddings_fit(with_spectral_norm):
    layer = LayerFactory(with_embedding_spectral_norm=with_spectral_norm).embedding(4, 6)
    plain = spectral_norm(nn.Embedding(4, 6)) if with_spectral_norm else nn.Embedding(4, 6)
    assert isinstance(layer, nn.Embedding) and list(layer.state_dict()) == list(plain.state_dict())
    layer.load_state_dict(plain.state_dict())
    assert torch.equal(layer.eval()(LABEL), plain.eval()(LABEL))


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
