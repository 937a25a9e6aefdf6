"""The fast way computes what the plain way does: images, logits, losses, gradients; and takes over its checkpoints."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmsagan.engine.optim import BFloat16OptimWrapper
from mmsagan.models.layers.blocks import set_fast
from mmsagan.models.layers.spectral_norm import run_power_iterations
from mmsagan.registry import MODELS

N, CLASSES = 6, 3
STATES: dict[str, dict] = {}


def both_ways(gan_config, **changes):
    """A GAN with converged spectral norms and attention that matters, the plain way and the fast way."""
    gans = [MODELS.build(gan_config(fast=fast, **changes)) for fast in (False, True)]
    if repr(changes) not in STATES:
        gans[0].init_weights()
        for module in gans[0].modules():
            if hasattr(module, 'gamma'):
                nn.init.constant_(module.gamma, 0.7)
        # So far that another iteration changes nothing: the plain way judges fake images after one, the fast way after two.
        run_power_iterations(gans[0], 500)
        STATES[repr(changes)] = copy.deepcopy(gans[0].state_dict())
    for gan in gans:
        gan.load_state_dict(STATES[repr(changes)])
    return gans


def wrapper_without_updates(network):
    return OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.0))


def gradients_of_updates(gan, images, label):
    """The gradients of D's update and of G's, and what they log."""
    torch.manual_seed(5)
    found = {}
    for name in ('discriminator', 'generator'):
        network = getattr(gan, name)
        wrapper = wrapper_without_updates(network)
        wrapper.zero_grad = lambda **kwargs: None  # keeps the gradients
        network.zero_grad()
        if name == 'discriminator':
            found.update(gan.train_discriminator(images, label, wrapper))
        else:
            found.update(gan.train_generator(len(images), wrapper))
        found.update({f'{name}.{key}': parameter.grad.clone() for key, parameter in network.named_parameters()})
    return found


def assert_close(fast, plain):
    """All together to 1e-4, each for itself to 1e-3: of those before a batch norm only rounding errors are left."""
    assert fast.keys() == plain.keys()
    everything = [torch.cat([values[key].flatten() for key in plain]) for values in (fast, plain)]
    assert torch.dist(*everything) <= 1e-4 * everything[1].norm()
    for key, value in plain.items():
        assert torch.dist(fast[key], value) <= 1e-3 * max(value.norm(), 1e-3 * everything[1].norm()), key


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last', 'strided'])
@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(num_classes=0),
        dict(discriminator=dict(act_cfg=dict(type='ReLU', inplace=True))),
        dict(discriminator=dict(type='ACDiscriminator'), auxiliary_loss=dict(type='AuxiliaryClassificationLoss')),
    ],
    ids=['conditional', 'unconditional', 'in-place ReLU', 'classifier'],
)
def test_updates_have_equal_losses_and_gradients(gan_config, changes, layout):
    plain, fast = both_ways(gan_config, **changes)
    images = torch.rand(N, 3, 32, 32) * 2 - 1
    if layout == 'channels-last':
        images = images.contiguous(memory_format=torch.channels_last)
    elif layout == 'strided':
        images = images.transpose(2, 3)
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    found = [gradients_of_updates(gan, images, label) for gan in (fast, plain)]
    assert_close(*found)
    assert any(value.abs().max() > 0 for key, value in found[0].items() if 'theta' in key), 'attention takes part'


@pytest.mark.parametrize('fused_attention', [False, True])
def test_samples_are_equal(gan_config, fused_attention, monkeypatch):
    monkeypatch.setattr('mmsagan.models.layers.attention.FUSED_FROM', 0 if fused_attention else 2**40)
    plain, fast = (gan.eval() for gan in both_ways(gan_config))
    noise, label = torch.randn(N, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    images = plain.sample(noise, label)
    torch.testing.assert_close(fast.sample(noise, label), images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.discriminator(images, label), plain.discriminator(images, label), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('size', [(31, 31), (30, 17)])
def test_the_discriminator_on_odd_sizes(gan_config, size):
    """The averages leave out a last row or column, and so must the fast way. Attention needs even maps."""
    plain, fast = both_ways(gan_config, discriminator=dict(attention_after_nth_block=0))
    label = torch.tensor([0, 1])
    results = []
    for gan in (fast, plain):
        images = torch.linspace(-1, 1, 2 * 3 * size[0] * size[1]).sin().view(2, 3, *size).requires_grad_()
        logits = gan.discriminator(images, label)
        logits.sum().backward()
        results.append(dict(logits=logits, images=images.grad))
    assert_close(*results)


def test_checkpoints_are_interchangeable(gan_config):
    plain, fast = both_ways(gan_config)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    back = MODELS.build(gan_config(fast=False))
    back.load_state_dict(fast.state_dict())
    for key, value in plain.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
    assert fast.generator.conv_blocks[0].conv_2.weight_orig.is_contiguous(memory_format=torch.channels_last)


class Flattening(nn.Module):
    """A discriminator of another make, which knows no fast way and wants its images contiguous."""

    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 1)
        self.batches = []

    def forward(self, image, label):
        self.batches.append(len(image))
        return self.linear(image.view(len(image), -1))


@pytest.mark.parametrize('fast', [True, False])
def test_networks_of_another_make(gan_config, fast):
    gan = MODELS.build(dict(gan_config(fast=fast), discriminator=dict(type=Flattening)))
    images, label = torch.rand(N, 3, 32, 32) * 2 - 1, torch.zeros(N, dtype=torch.long)
    gan.train_discriminator(images, label, wrapper_without_updates(gan.discriminator))
    gan.train_generator(N, wrapper_without_updates(gan.generator))
    assert gan.discriminator.batches == [N, N, N], 'real, fake, and fake for G'


def test_discriminators_with_batch_norm_judge_real_and_fake_apart(gan_config):
    class Normalizing(nn.Module):
        fast = True

        def __init__(self, num_classes):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.linear = nn.Linear(3 * 32 * 32, 1)

        def forward(self, image, label):
            return self.linear(self.norm(image).flatten(1))

    gan = MODELS.build(dict(gan_config(), discriminator=dict(type=Normalizing)))
    images, label = torch.rand(N, 3, 32, 32) * 2 - 1, torch.zeros(N, dtype=torch.long)
    gan.train_discriminator(images, label, wrapper_without_updates(gan.discriminator))
    assert gan.discriminator.norm.num_batches_tracked == 2


@pytest.mark.parametrize('network, iterations', [('discriminator', 2), ('generator', 1)])
@pytest.mark.parametrize('kind', [OptimWrapper, BFloat16OptimWrapper])
@pytest.mark.parametrize('fast', [False, True])
def test_power_iterations_of_the_discriminator_are_the_published_ones(gan_config, fast, kind, network, iterations):
    """One for fake and one for real images in its own update, one in the generator's; in float32, of layers of any kind."""
    gan = MODELS.build(gan_config(fast=fast))
    layers = [module for module in gan.discriminator.modules() if hasattr(module, 'weight_orig')]
    expected = [[layer.weight_u.double(), layer.weight_v.double()] for layer in layers]
    for layer, vectors in zip(layers, expected):
        matrix = layer.weight_orig.detach().double().flatten(1)
        for _ in range(iterations):
            vectors[1] = nn.functional.normalize(matrix.T @ vectors[0], dim=0)
            vectors[0] = nn.functional.normalize(matrix @ vectors[1], dim=0)
    wrapper = kind(optimizer=torch.optim.SGD(getattr(gan, network).parameters(), lr=0.0))
    if network == 'discriminator':
        gan.train_discriminator(torch.rand(N, 3, 32, 32) * 2 - 1, torch.zeros(N, dtype=torch.long), wrapper)
    else:
        gan.train_generator(N, wrapper)
    for layer, vectors in zip(layers, expected):
        torch.testing.assert_close([layer.weight_u.double(), layer.weight_v.double()], vectors, rtol=1e-4, atol=1e-5)


def test_frozen_samples_are_the_same(gan_config):
    gan = MODELS.build(gan_config(ema_config=dict(momentum=0.9)))
    gan.init_weights()
    before = copy.deepcopy(gan.state_dict())
    noise, label = torch.randn(N, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    for sample_model in ('ema', 'orig'):
        expected = gan.sample(noise, label, sample_model=sample_model)
        with gan.inference_copy():
            images = [gan.sample(noise, label, sample_model=sample_model) for _ in range(2)]
        assert all(torch.equal(found, expected) for found in images)
    assert gan.training and all(torch.equal(value, before[key]) for key, value in gan.state_dict().items())
    with pytest.raises(RuntimeError), gan.inference_copy():
        raise RuntimeError
    nn.init.constant_(gan.generator.to_rgb.conv.bias, 3.0)
    assert not torch.equal(gan.sample(noise, label, sample_model='orig'), expected), 'the copy is gone'


@pytest.mark.parametrize('noise_in_norms', [False, True])
def test_frozen_samples_in_bfloat16_are_nearly_the_same(noise_in_norms, gan_config):
    gan = MODELS.build(gan_config(generator=dict(noise_in_norms=noise_in_norms)))
    gan.init_weights()
    noise, label = torch.randn(N, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = gan.sample(noise, label)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rounded = gan.sample(noise, label)
    with gan.inference_copy(amp=True):
        images = gan.sample(noise, label)
        with gan.inference_copy():  # as when a hook makes samples within an evaluation
            exact = gan.sample(noise, label)
        assert torch.equal(gan.sample(noise, label), images), 'the outer one goes on as it was'
    assert torch.equal(gan.sample(noise, label), exact) and torch.equal(exact, expected)
    # Weights are rounded where autocast rounds them, and those of the noise in norms as well.
    torch.testing.assert_close(images, rounded, rtol=0, atol=0.02 if noise_in_norms else 0)
    assert images.dtype == torch.float32 and not torch.equal(images, expected)
    assert (images - expected).abs().mean() < 0.02 * expected.std()


@pytest.mark.parametrize('fast', [False, True])
def test_switching_a_built_network(gan_config, fast):
    switched = MODELS.build(gan_config(fast=not fast))
    expected = MODELS.build(gan_config(fast=fast))
    set_fast(switched, fast)
    for module, other in zip(switched.modules(), expected.modules(), strict=True):
        assert getattr(module, 'fast', None) == getattr(other, 'fast', None)
    assert switched.uses_joint_discriminator_pass == expected.uses_joint_discriminator_pass == fast
