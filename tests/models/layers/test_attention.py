import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmsagan.errors import ConfigError
from mmsagan.models import ResidualAttentionSubstitute, SelfAttentionBlock
from mmsagan.models.layers.blocks import set_fast
from mmsagan.models.layers.spectral_norm import run_power_iterations


def written_out(block: SelfAttentionBlock, x: torch.Tensor, pooled: bool) -> torch.Tensor:
    """Equations 1 to 3 of the paper, one query and one key at a time; ``pooled`` adds the official code's 2x2 max pooling."""

    def project(layer, features):
        return torch.einsum('oc,nchw->nohw', layer.weight[:, :, 0, 0], features)

    def locations(features):
        return features.reshape(features.shape[0], features.shape[1], -1)

    def pool(features):
        if not pooled:
            return features
        top = torch.maximum(features[..., ::2, ::2], features[..., ::2, 1::2])
        bottom = torch.maximum(features[..., 1::2, ::2], features[..., 1::2, 1::2])
        return torch.maximum(top, bottom)

    query = locations(project(block.theta, x))
    key, value = (locations(pool(project(layer, x))) for layer in (block.phi, block.g))
    out = torch.zeros(x.shape[0], value.shape[1], query.shape[2])
    for n in range(x.shape[0]):
        for j in range(query.shape[2]):
            scores = [math.exp(float(query[n, :, j] @ key[n, :, i])) for i in range(key.shape[2])]
            for i, score in enumerate(scores):
                out[n, :, j] += score / sum(scores) * value[n, :, i]
    out = project(block.o, out.reshape(x.shape[0], -1, *x.shape[2:]))
    return x + block.gamma * out


@pytest.mark.parametrize(
    'arguments, pooled',
    [({}, True), (dict(value_reduction=8, pool=False), False), (dict(query_key_reduction=2, value_reduction=4), True)],
    ids=['official', 'paper', 'wide queries'],
)
@pytest.mark.parametrize('fused', [False, True])
def test_attention_equals_the_formula(arguments, pooled, fused, monkeypatch):
    monkeypatch.setattr('mmsagan.models.layers.attention.FUSED_FROM', 0 if fused else math.inf)
    block = SelfAttentionBlock(16, with_spectral_norm=False, **arguments)
    torch.nn.init.constant_(block.gamma, 0.7)
    x = torch.randn(2, 16, 4, 6)
    torch.testing.assert_close(block(x), written_out(block, x, pooled), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last', 'strided'])
@pytest.mark.parametrize('pool', [True, False])
def test_fused_attention_equals_the_plain_one(layout, pool, monkeypatch):
    monkeypatch.setattr('mmsagan.models.layers.attention.FUSED_FROM', 0)
    plain = set_fast(SelfAttentionBlock(16, pool=pool), False).eval()
    run_power_iterations(plain)
    torch.nn.init.constant_(plain.gamma, 0.7)
    fused = copy.deepcopy(plain)
    fused.fast = True
    x = torch.randn(2, 16, 10, 6)
    x = {'contiguous': x, 'channels-last': x.contiguous(memory_format=torch.channels_last), 'strided': x.transpose(2, 3)}[
        layout
    ]
    results = []
    for block in (plain, fused):
        features = x.clone().requires_grad_()
        out = block(features)
        out.square().sum().backward()
        results.append([out, features.grad, *(parameter.grad for parameter in block.parameters())])
    for of_fused, of_plain in zip(*reversed(results)):
        torch.testing.assert_close(of_fused, of_plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('channels, pool', [(16, False), (48, True), (8, True)])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_the_fused_kernel_takes_every_width_and_layout(channels, pool, layout):
    """Elsewhere PyTorch would silently turn to a kernel that holds all weights."""
    block = SelfAttentionBlock(channels, pool=pool)
    x = torch.randn(2, channels, 9, 7).contiguous(memory_format=layout).requires_grad_()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        block.attend_fused(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'is_cuda, dtype, widths',
    [
        (False, torch.float32, [12, 12, 12]),
        (False, torch.bfloat16, [12, 12, 12]),
        (True, torch.float32, [4, 4, 12]),
        (True, torch.bfloat16, [16, 16, 16]),
    ],
)
def test_widths_are_padded_as_far_as_a_kernel_needs(is_cuda, dtype, widths, monkeypatch):
    """Of 3, 3 and 12. Flash attention takes one width, and on GPUs no float32; memory-efficient attention 16 bytes."""
    found = []

    def attend(query, key, value, scale):
        found.extend(each.shape[3] for each in (query, key, value))
        return query.new_empty(*query.shape[:3], value.shape[3])

    monkeypatch.setattr(F, 'scaled_dot_product_attention', attend)
    monkeypatch.setattr(torch.Tensor, 'is_cuda', is_cuda, raising=False)
    out = SelfAttentionBlock(24, with_spectral_norm=False).to(dtype)(torch.randn(2, 24, 32, 32, dtype=dtype))
    assert found == widths and out.shape == (2, 24, 32, 32)


@pytest.mark.parametrize('pool', [True, False])
def test_odd_maps(pool):
    block = SelfAttentionBlock(16, pool=pool).eval()
    run_power_iterations(block)
    x = torch.randn(2, 16, 9, 7)
    torch.testing.assert_close(block.attend_fused(x), block.attend(x), rtol=1e-4, atol=1e-4)


def test_large_maps_are_fused_and_small_ones_are_not(monkeypatch):
    sizes = []
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, 'scaled_dot_product_attention', lambda query, *args, **kw: sizes.append(query) or attend(query, *args, **kw)
    )
    for fast in (True, False):
        for size in (16, 64):
            set_fast(SelfAttentionBlock(8), fast)(torch.randn(1, 8, size, size))
    assert [query.shape[2] for query in sizes] == [64 * 64]


def test_gamma_starts_at_zero_and_learns():
    block = SelfAttentionBlock(8)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.gamma.grad.abs() > 0


@pytest.mark.parametrize('pool, grid', [(True, (3, 4)), (False, (6, 8))])
def test_chosen_rows_are_those_of_the_whole(pool, grid):
    block, x = SelfAttentionBlock(16, pool=pool).eval(), torch.randn(2, 16, 6, 8)
    queries = torch.tensor([[0, 47, 9], [9, 9, 30]])
    rows = block.attention(x, queries)
    assert block.key_grid(x) == grid and rows.shape == (2, 3, grid[0] * grid[1])
    whole = block.attention(x)
    expected = torch.stack([whole[n, queries[n]] for n in range(2)])
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-7)


def test_large_logits_are_not_rounded_under_autocast():
    block = SelfAttentionBlock(64, with_spectral_norm=False).requires_grad_(False)
    x = torch.randn(4, 64, 8, 8)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        block.theta.weight *= 34 / (block.theta(x).flatten(2).transpose(1, 2) @ block.max_pool(block.phi(x)).flatten(2)).std()
        query, key = block.theta(x), block.max_pool(block.phi(x))
        weights = block.attention(x)
    logits = query.double().flatten(2).transpose(1, 2) @ key.double().flatten(2)
    assert query.dtype == torch.bfloat16 and 30 < logits.std() < 38
    torch.testing.assert_close(weights.double(), logits.softmax(-1), rtol=1e-3, atol=1e-30)


def test_channels_must_divide():
    with pytest.raises(ConfigError, match='in_channels'):
        SelfAttentionBlock(12)


@pytest.mark.parametrize('arguments', [dict(in_channels=128, value_reduction=8), dict(in_channels=12)])
def test_sizes_that_the_substitute_cannot_have(arguments):
    with pytest.raises(ConfigError, match='in_channels'):
        ResidualAttentionSubstitute(**arguments)


def test_the_substitute_equals_its_formula():
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
