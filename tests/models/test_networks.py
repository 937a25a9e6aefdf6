"""Generator and discriminator: outputs of the references' own checkpoints, shapes."""

import pytest
import torch
import torch.nn.functional as F

from mmsagan.apis import init_model
from mmsagan.errors import ConfigError
from mmsagan.models import ACDiscriminator, ProjDiscriminator, SAGANGenerator
from mmsagan.models.layers.spectral_norm import NetworkSpectralNorm
from mmsagan.registry import MODELS


@pytest.mark.parametrize('fast', [False, True])
def test_outputs_of_the_reference_code(reference, fast):
    reference.check(init_model(None, reference.path, cfg_options={'model.fast': fast}))


@pytest.mark.parametrize('scale', [32, 64, 128])
def test_sizes(scale):
    generator = SAGANGenerator(scale, 5, 8, noise_size=12, attention_after_nth_block=2)
    discriminator = ProjDiscriminator(scale, 5, 8, attention_after_nth_block=1)
    label = torch.tensor([0, 4])
    images = generator(torch.randn(2, 12), label=label)
    assert images.shape == (2, 3, scale, scale) and images.abs().max() <= 1
    assert discriminator(images, label).shape == (2, 1)


def test_another_size_by_channels_cfg():
    generator = SAGANGenerator(48, 5, 8, input_scale=6, channels_cfg=[4, 2, 2], noise_size=12)
    discriminator = ProjDiscriminator(48, 5, 8, channels_cfg=[2, 4], downsample_cfg=[True, False])
    images = generator(torch.randn(1, 12), torch.tensor([0]))
    assert images.shape == (1, 3, 48, 48)
    assert discriminator(images, torch.tensor([0])).shape == (1, 1)


@pytest.mark.parametrize(
    'network, arguments, message',
    [
        ('SAGANGenerator', dict(output_scale=100), r'output_scale=100 is not supported: known sizes are 32, 64, 128'),
        ('SAGANGenerator', dict(output_scale=32, channels_cfg=[1, 1]), '2 up-blocks'),
        ('SAGANGenerator', dict(output_scale=32, attention_after_nth_block=4), 'numbered 1 to 3'),
        ('SAGANGenerator', dict(output_scale=32, init_cfg=dict(type='kaiming')), "unknown init scheme 'kaiming'"),
        ('ProjDiscriminator', dict(input_scale=100), 'input_scale=100 is not supported'),
        ('ProjDiscriminator', dict(input_scale=32, channels_cfg=[1, 2]), 'equally many'),
        ('ProjDiscriminator', dict(input_scale=32, freeze_blocks=5), 'freeze_blocks=5.*4 blocks'),
    ],
)
def test_wrong_arguments(network, arguments, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build(dict(type=network, num_classes=3, **arguments))


@pytest.mark.parametrize('freeze_blocks, indices', [(0, None), (1, ''), (2, '01'), (4, '0123')])
def test_frozen_blocks_get_no_gradient_and_the_others_the_same_one(freeze_blocks, indices):
    """With attention after the second block, which is frozen with it."""
    whole, frozen = (ProjDiscriminator(32, 3, 8, attention_after_nth_block=2, freeze_blocks=n) for n in (0, freeze_blocks))
    frozen.load_state_dict(whole.state_dict())
    image, computed = torch.rand(4, 3, 32, 32), []
    frozen.from_rgb.register_forward_hook(lambda module, inputs, output: computed.append(output.requires_grad))
    for network in (whole, frozen):
        NetworkSpectralNorm(network)
        network(image, torch.tensor([0, 1, 2, 0])).square().sum().backward()
    blocks = () if indices is None else ('from_rgb.', *(f'conv_blocks.{index}.' for index in indices))
    assert computed == [freeze_blocks == 0]
    weights = dict(frozen.named_parameters())
    for name, weight in whole.named_parameters():
        torch.testing.assert_close(weights[name].grad, None if name.startswith(blocks) else weight.grad)


def test_auxiliary_classifier_shares_the_trunk_and_ignores_the_label():
    projection = ProjDiscriminator(32, 10, 8, attention_after_nth_block=1)
    classifying = ACDiscriminator(32, 10, 8, attention_after_nth_block=1)
    state = {key: tensor for key, tensor in projection.state_dict().items() if not key.startswith('proj_y.')}
    missing, unknown = classifying.load_state_dict(state, strict=False)
    assert not unknown and all(key.startswith('classifier.') for key in missing)
    projection.eval(), classifying.eval()
    image, label = torch.rand(3, 3, 32, 32), torch.tensor([0, 4, 9])
    with torch.no_grad():
        logits, class_logits = classifying(image, label)
        assert torch.equal(classifying(image, label.flip(0))[1], class_logits) and class_logits.shape == (3, 10)
        features = projection.features(image)
        weight = classifying.classifier.weight_orig
        sigma = classifying.classifier.weight_u @ weight @ classifying.classifier.weight_v
        torch.testing.assert_close(class_logits, features @ (weight / sigma).T + classifying.classifier.bias)
        projected = (projection.proj_y(label) * features).sum(1, keepdim=True)
        torch.testing.assert_close(projection(image, label) - projected, logits)


def test_norms_that_depend_on_the_noise():
    """Their scale and shift are the class's plus a linear map of the noise, whose standard deviation is a third at first."""
    generator = SAGANGenerator(32, num_classes=3, base_channels=64, noise_size=128, noise_in_norms=True)
    generator.init_weights()
    norm, noise, label = generator.conv_blocks[1].norm_2, torch.randn(500, 128), torch.arange(500) % 3
    assert all(layer(noise).std().item() == pytest.approx(1 / 3, rel=0.02) for layer in (norm.weight_noise, norm.bias_noise))
    x = torch.randn(500, 64, 2, 2)
    scale = 1 + norm.weight_embedding(label) + noise @ norm.weight_noise.weight.T
    shift = norm.bias_embedding(label) + noise @ norm.bias_noise.weight.T
    expected = F.batch_norm(x, None, None, training=True, eps=1e-4) * scale[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(norm(x, label, noise), expected, rtol=1e-4, atol=1e-4)
    # The noise reaches the norms of every block: without its first layer, images still differ.
    torch.nn.init.zeros_(generator.noise2feat.weight)
    first, second = generator.eval()(noise[:2], label=torch.zeros(2, dtype=torch.long))
    assert (first - second).abs().max() > 1e-3
    for options in (dict(num_classes=0), dict(num_classes=3, use_cbn=False)):
        with pytest.raises(ConfigError, match='noise_in_norms'):
            SAGANGenerator(32, noise_in_norms=True, **options)
