"""Class embeddings and batch norms; the residual blocks are tested in test_networks.py and test_fast.py."""

import copy

import pytest
import torch
from torch import nn

from mmsagan.models import ProjDiscriminator, SAGANGenerator
from mmsagan.models.layers.blocks import ClassEmbedding, ConditionalBatchNorm2d, LayerFactory
from mmsagan.models.layers.spectral_norm import spectral_norm, spectral_norm_hook

LABEL = torch.tensor([2, 0, 2])
ONE_HOT = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])


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


@pytest.mark.parametrize('embeddings', [True, False])
def test_embeddings_have_their_own_switch_of_spectral_norm(embeddings):
    layers = LayerFactory(with_spectral_norm=not embeddings, with_embedding_spectral_norm=embeddings, sn_eps=1e-6)
    hooks = [spectral_norm_hook(layers.normalize(layer)) for layer in (nn.Conv2d(2, 2, 3), ClassEmbedding(2, 2))]
    assert [hook is not None for hook in hooks] == [not embeddings, embeddings]
    assert {hook.eps for hook in hooks if hook} == {1e-6}
