import pytest
import torch
from torch import nn

from mmsagan.models.layers import ConditionalBatchNorm2d, build_batch_norm
from mmsagan.models.layers import norm as norm_module


def make(offset: float) -> ConditionalBatchNorm2d:
    return ConditionalBatchNorm2d(build_batch_norm(3, eps=1e-4, affine=False), nn.Embedding(4, 3), nn.Embedding(4, 3), offset)


@pytest.mark.parametrize('offset', [0.0, 1.0])
@pytest.mark.parametrize('training', [True, False])
def test_conditional_batch_norm_equals_the_formula(offset, training):
    layer = make(offset).train(training)
    x, label = torch.randn(5, 3, 4, 4) * 3 + 1, torch.tensor([0, 3, 3, 1, 2])
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 2)
    mean, var = layer.norm.running_mean.clone(), layer.norm.running_var.clone()
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
    monkeypatch.setattr(norm_module, 'is_distributed', lambda: distributed)
    monkeypatch.setattr(norm_module, 'is_cuda_available', lambda: cuda)
    layer = build_batch_norm(4, eps=1e-5, sync=True)
    assert type(layer) is expected and layer.eps == 1e-5
    assert type(build_batch_norm(4, sync=False)) is nn.BatchNorm2d
