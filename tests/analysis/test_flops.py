"""The counts are held to formulas written down from the networks' definitions, without looking at what torch runs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmsagan.analysis.flops import build_counted, count_flops, layer_flops, training_flops
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS

N, CLASSES, NOISE, C = 4, 3, 16, 8


def conv(size: int, inputs: int, outputs: int, kernel: int = 3) -> int:
    """Of one image, ``size`` being the output's, or the input's where the convolution is a transposed one."""
    return 2 * kernel**2 * inputs * outputs * size**2


def attention(size: int) -> dict[str, int]:
    """Queries and keys of C/8 channels, values of C/2; keys and values pooled to a quarter of the locations."""
    locations, keys = size**2, size**2 // 4
    return {
        'convolutions 1x1': conv(size, C, C // 8, 1) * 2 + conv(size, C, C // 2, 1) * 2,
        'attention': 2 * locations * keys * (C // 8) + 2 * locations * keys * (C // 2),
    }


def generator_forward(fast: bool) -> dict[str, int]:
    """Of one image, spectral norms apart. Three up-blocks from 4 to 32 pixels, attention at 16."""
    flops = {'convolutions 3x3': conv(32, C, 3), 'linear': 2 * NOISE * C * 16, **attention(16)}
    for size in (8, 16, 32):
        flops['convolutions 3x3'] += conv(size, C, C)
        flops['convolutions 3x3'] += conv(size // 2 if fast else size, C, C)
        flops['convolutions 1x1'] += conv(size // 2 if fast else size, C, C, 1)
    return flops


def discriminator_forward(fast: bool) -> dict[str, int]:
    """Of one image. The head and one block halve the size, from 32 to 8; two blocks without shortcuts' convolutions follow."""
    flops = {'convolutions 3x3': conv(32, 3, C) + conv(16, C, C) + 4 * conv(8, C, C), 'linear': 2 * C, **attention(16)}
    flops['convolutions 1x1'] += conv(16, 3, C, 1) + conv(8 if fast else 16, C, C, 1)
    flops['convolutions 3x3'] += conv(16, C, C) + conv(8, C, C) if fast else conv(32, C, C) + conv(16, C, C)
    return flops


def of_image_layers() -> dict[str, int]:
    """D's two convolutions that see the image: in D's update nothing needs its gradient."""
    return {'convolutions 3x3': conv(32, 3, C), 'convolutions 1x1': conv(16, 3, C, 1)}


def spectral_norms(network: nn.Module) -> int:
    """W'u and W v of the power iteration, and u . (W v), which is sigma, of every normalized layer."""
    return sum(2 * 2 * weight.numel() + 2 * weight.shape[0] for weight in normalized_weights(network))


def gradients_of_spectral_norms(network: nn.Module) -> int:
    """The product of each weight with its gradient."""
    return sum(2 * weight.numel() for weight in normalized_weights(network))


def normalized_weights(network: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in network.named_parameters() if name.endswith('weight_orig')]


def combine(*terms: tuple[int, dict[str, int]]) -> dict[str, int]:
    return {kind: sum(factor * flops.get(kind, 0) for factor, flops in terms) for _, flops in terms for kind in flops}


@pytest.fixture(scope='module')
def config(gan_config):
    return gan_config(num_classes=CLASSES)


def update_of_discriminator(size: int, fast: bool = True) -> dict[str, int]:
    """G once forward; D forward, for the features' gradients and for the weights', on real and on fake images."""
    forward_d = discriminator_forward(fast)
    return combine((size, generator_forward(fast)), (2 * size * 3, forward_d), (2 * size * -1, of_image_layers()))


def update_of_generator(size: int, fast: bool = True) -> dict[str, int]:
    """G and D forward and for the features' gradients, G for the weights', too. Attention's products have no weights."""
    forward_g, forward_d = generator_forward(fast), discriminator_forward(fast)
    of_noise, products = {'linear': 2 * NOISE * C * 16}, {'attention': forward_d['attention']}
    return combine((3 * size, forward_g), (-size, of_noise), (2 * size, forward_d), (size, products))


@pytest.mark.parametrize('fast', [False, True])
def test_training(config, fast):
    model = build_counted(config, fast)
    networks = model.generator, model.discriminator
    norms_g, norms_d = ({'spectral norm': spectral_norms(network)} for network in networks)
    slopes_g, slopes_d = ({'spectral norm': gradients_of_spectral_norms(network)} for network in networks)
    counted = training_flops(config, N, fast)
    # In the plain way D normalizes its weights anew for real and for fake images.
    passes = 1 if fast else 2
    expected = combine((1, update_of_discriminator(N, fast)), (1, norms_g), (passes, norms_d), (passes, slopes_d))
    assert dict(counted.discriminator.by_kind) == expected
    expected = combine((1, update_of_generator(N, fast)), (1, norms_g), (1, norms_d), (1, slopes_g))
    assert dict(counted.generator.by_kind) == expected
    assert counted.step.total == counted.discriminator.total + counted.generator.total
    assert counted.iteration(5, 2) == counted.discriminator.total + counted.generator.total * 2 / 5


def test_training_as_configured(config):
    plain, fast = (training_flops(config, N, fast) for fast in (False, True))
    assert training_flops(dict(config, fast=False), N) == plain != fast
    assert training_flops(dict(config, fast=True), N) == training_flops(config, N) == fast


def test_training_without_classes(config):
    counted = training_flops(dict(config, num_classes=0), N).generator.by_kind
    assert {kind: flops for kind, flops in counted.items() if kind != 'spectral norm'} == update_of_generator(N)


def test_layers(config):
    tables = layer_flops(config, N)
    model = MODELS.build(config)
    for name, plain, fast in (
        ('generator', generator_forward(False), generator_forward(True)),
        ('discriminator', discriminator_forward(False), discriminator_forward(True)),
    ):
        network = getattr(model, name)
        total, *layers = tables[name]
        norms = spectral_norms(network)
        assert (total.name, total.depth, total.type) == ('', 0, type(network).__name__)
        assert (total.plain, total.fast) == (N * sum(plain.values()) + norms, N * sum(fast.values()) + norms)
        assert total.parameters == sum(parameter.numel() for parameter in network.parameters())
        blocks = [layer for layer in layers if layer.depth == 1]
        assert sum(block.plain for block in blocks) == total.plain, 'every FLOP belongs to a block'
        assert sum(block.parameters for block in blocks) == total.parameters
    rows = {row.name: row for row in tables['generator']}
    row = rows['conv_blocks.0.conv_1']
    norm = spectral_norms(model.generator.conv_blocks[0].conv_1)
    assert (row.depth, row.type, row.parameters, row.output_shape) == (2, 'UpsampleConv2d', 9 * C * C + C, (N, C, 8, 8))
    assert (row.plain, row.fast) == (N * conv(8, C, C) + norm, N * conv(4, C, C) + norm)
    assert rows['conv_blocks.0.norm_1.weight_embedding'].depth == 3
    assert not any('activation' in name for name in rows), 'neither parameters nor FLOPs'


def test_a_classifying_discriminator(config):
    discriminator = dict(config['discriminator'], type='ACDiscriminator')
    classifying = dict(config, discriminator=discriminator, auxiliary_loss=dict(type='AuxiliaryClassificationLoss'))
    rows = {row.name: row for row in layer_flops(classifying, N)['discriminator']}
    of_image, norm = 2 * C * CLASSES, 2 * 2 * C * CLASSES + 2 * CLASSES
    assert rows['classifier'].plain == N * of_image + norm
    linear = update_of_discriminator(N)['linear'] + 2 * N * 3 * of_image
    assert training_flops(classifying, N).discriminator.by_kind['linear'] == linear


def test_nothing_is_computed_or_kept(config):
    """A batch that no memory could hold; and the random numbers go on as if there had been none."""
    before = torch.get_rng_state()
    model = build_counted(config)
    after_building = torch.get_rng_state()
    flops = count_flops(lambda: model.generator(model.draw_noise(10**9), label=model.draw_label(10**9)))
    assert flops.total > 10**15
    assert torch.equal(torch.get_rng_state(), after_building) and not torch.equal(before, after_building)


def test_fused_attention_counts_like_the_products_it_fuses():
    def fused(query, key, value):
        return F.scaled_dot_product_attention(query, key, value)

    def products(query, key, value):
        return torch.softmax(query @ key.transpose(-1, -2), -1) @ value

    def count(function, backward):
        def action():
            sizes = ((64, 8), (16, 8), (16, 8))
            inputs = [torch.empty(2, 1, *size, requires_grad=backward) for size in sizes]
            out = function(*inputs)
            if backward:
                out.sum().backward()

        return count_flops(action)

    forward = count(products, backward=False)
    assert forward.by_kind == {'attention': 2 * (2 * 64 * 16 * 8 + 2 * 64 * 16 * 8)}
    assert count(fused, backward=False).by_kind == forward.by_kind
    # The fused one multiplies queries and keys anew in the backward pass.
    assert count(fused, backward=True).total == count(products, backward=True).total + forward.total // 2


class PlainDiscriminator(nn.Module):
    """One that knows no fast form, and whose arguments are few."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 1)

    def forward(self, image, label):
        return self.layer(image.flatten(1))


def test_a_network_without_a_fast_form(config):
    rows = layer_flops(dict(config, discriminator=dict(type=PlainDiscriminator)))['discriminator']
    assert [(row.name, row.plain, row.fast) for row in rows] == [('', 6144, 6144), ('layer', 6144, 6144)]


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(generator=None), r'no generator=dict\(...\)'),
        (dict(generator=dict(type='SAGANGenrator')), "did you mean 'SAGANGenerator'"),
        (dict(generator=dict(type='SAGANGenerator')), 'cannot be built'),
        (dict(num_clases=3), 'cannot be built'),
    ],
)
def test_what_cannot_be_counted(config, change, message):
    with pytest.raises(ConfigError, match=message):
        layer_flops(dict(config, **change))
