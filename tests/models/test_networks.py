"""Generator and discriminator: outputs of the references' own checkpoints, shapes."""

import pytest
import torch

from mmsagan.apis import init_model
from mmsagan.errors import ConfigError
from mmsagan.models import ACDiscriminator, ProjDiscriminator, SAGANGenerator
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
    ],
)
def test_wrong_arguments(network, arguments, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build(dict(type=network, num_classes=3, **arguments))


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
