"""FLOPs are held to formulas written down from the networks' definitions, without looking at what torch runs."""

import flop_counts
import pytest
from torch import nn

TOOL = 'analysis_tools/get_flops.py'
N, NOISE, C = 4, 16, 8


def conv(size: int, inputs: int, outputs: int, kernel: int = 3) -> int:
    """Of one image; ``size`` is the output's, or the input's of a transposed convolution."""
    return 2 * kernel**2 * inputs * outputs * size**2


def attention(size: int) -> dict[str, int]:
    """Queries and keys of C/8 channels, values of C/2; keys and values pooled to a quarter of the locations."""
    locations, keys = size**2, size**2 // 4
    return {
        'convolutions': conv(size, C, C // 8, 1) * 2 + conv(size, C, C // 2, 1) * 2,
        'attention': 2 * locations * keys * (C // 8) + 2 * locations * keys * (C // 2),
    }


def generator_forward(fast: bool) -> dict[str, int]:
    """Of one image, without spectral norms. Three up-blocks from 4 to 32 pixels, attention at 16."""
    found = {'linear': 2 * NOISE * C * 16, **attention(16)}
    found['convolutions'] += conv(32, C, 3)
    for size in (8, 16, 32):
        inner = size // 2 if fast else size
        found['convolutions'] += conv(size, C, C) + conv(inner, C, C) + conv(inner, C, C, 1)
    return found


def spectral_norms(network: nn.Module) -> int:
    """W'u and W v of the power iteration of every normalized layer; sigma is the norm of W v."""
    weights = [p for name, p in network.named_parameters() if name.endswith('weight_orig')]
    return sum(2 * 2 * weight.numel() for weight in weights)


@pytest.mark.parametrize('fast', [False, True])
def test_a_forward_pass(gan_config, fast):
    model = flop_counts.build_gan(gan_config(), fast)
    layers = flop_counts.count_forward(model, 'generator', N)
    assert layers['conv_blocks.0.conv_1'] == N * conv(4 if fast else 8, C, C), (
        'its spectral norm is computed with those of the network'
    )
    assert layers[''] == N * sum(generator_forward(fast).values()) + spectral_norms(model.generator)


def test_the_tables(run_here, tmp_path):
    """Of networks without spectral norms, whose many small products take long on fake tensors."""
    sizes = dict(base_channels=C, with_spectral_norm=False)
    networks = dict(
        generator=dict(type='SAGANGenerator', output_scale=32, noise_size=NOISE, attention_after_nth_block=0, **sizes),
        discriminator=dict(type='ProjDiscriminator', input_scale=32, attention_after_nth_block=0, **sizes),
    )
    config = tmp_path / 'config.py'
    config.write_text(f"model = dict(type='SAGAN', num_classes=0, **{networks!r})\ntrain_dataloader = dict(batch_size=4)\n")
    code, out, err = run_here(TOOL, config, '--depth', 1)
    assert (code, err) == (0, '')
    generator, _, training = (table.splitlines() for table in out.strip().split('\n\n'))
    attention_block = sum(attention(16).values())
    numbers = [f'{(sum(generator_forward(fast).values()) - attention_block) / 1e6:,.3f}' for fast in (False, True)]
    assert generator[2].split()[-2:] == numbers and generator[2].split()[:2] == ['all', 'SAGANGenerator']
    assert [line.split()[0] for line in generator[3:]] == ['noise2feat', *(f'conv_blocks.{i}' for i in range(3)), 'to_rgb']
    assert training[0].startswith('training, batch of 4 ')
    totals = [float(line.split()[-1]) for line in training[1:]]
    assert totals[2] == pytest.approx(totals[0] + totals[1], abs=0.002) == pytest.approx(sum(totals[3:]), abs=0.01)
