"""Weights of another model: other classes, other sizes, other normalization, and what is refused."""

import pytest
import torch

from mmsagan.checkpoints.transfer import CLASS_LAYERS, transfer_weights
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS


@pytest.mark.parametrize('class_embeddings', ['mean', 'random', {0: 3, 1: 3, 2: 0}])
def test_other_classes(gan_config, settle, class_embeddings):
    kind = dict(discriminator=dict(type='ACDiscriminator'), auxiliary_loss=dict(type='AuxiliaryClassificationLoss'))
    theirs, model = settle(MODELS.build(gan_config(5, **kind))).state_dict(), MODELS.build(gan_config(3, **kind))
    fitting = transfer_weights(model.state_dict(), theirs, class_embeddings)
    with_classes = {key for key in theirs if key.split('.')[-2:][0] in CLASS_LAYERS}
    assert len(with_classes) == 40
    assert theirs.keys() - fitting == {'iteration', *(with_classes if class_embeddings == 'random' else ())}
    assert all(torch.equal(fitting[key], theirs[key]) for key in theirs.keys() & fitting.keys() - with_classes)
    for key in with_classes & fitting.keys():
        if key.endswith(('weight_orig', 'bias')):
            rows = [range(5)] * 3 if class_embeddings == 'mean' else [[3], [3], [0]]
            mean = [sum(theirs[key][row] for row in each) / len(each) for each in rows]
            torch.testing.assert_close(fitting[key], torch.stack(mean))
        if key.endswith('weight_orig'):  # settled: u . (W v) is the largest singular value
            sigma = fitting[key.replace('orig', 'u')] @ fitting[key] @ fitting[key.replace('orig', 'v')]
            torch.testing.assert_close(sigma, torch.linalg.matrix_norm(fitting[key], 2))


def test_a_model_without_spectral_norm_computes_the_same_for_the_named_classes(gan_config, settle):
    source = settle(MODELS.build(gan_config(5))).eval()
    torch._foreach_mul_([weight.data for name, weight in source.named_parameters() if name.endswith('orig')], 3)
    plain = gan_config(2, dict(with_embedding_spectral_norm=False), dict(with_spectral_norm=False))
    model, names = MODELS.build(plain).eval(), (('wolf', 'sheep'), ('cow', 'dog', '3', 'lamb', 'fox'))
    noise, label = torch.randn(4, 16), torch.tensor([0, 1, 1, 0])
    for classes, old in (({'wolf': 'dog', 1: 3}, [1, 3, 3, 1]), ({0: '3', 'sheep': 4}, [2, 4, 4, 2])):
        own = model.state_dict()
        model.load_state_dict({**own, **transfer_weights(own, source.state_dict(), classes, *names)})
        images = source.sample(noise, torch.tensor(old))
        torch.testing.assert_close(model.sample(noise, label), images, rtol=0, atol=1e-5)
        logits = source.discriminator(images, torch.tensor(old))
        torch.testing.assert_close(model.discriminator(images, label), logits, rtol=1e-4, atol=1e-4)


def test_blocks_of_a_larger_model(gan_config):
    """Of the default widths, with attention over 32x32 features in both generators, but between other blocks from the image."""
    theirs, own = (
        MODELS.build(gan_config(4, dict(output_scale=size, attention_after_nth_block=3), dict(input_scale=size))).state_dict()
        for size in (128, 64)
    )
    fitting = transfer_weights(own, theirs)
    attention = {key for key in own if key.startswith('generator.conv_blocks.3.')}
    assert own.keys() - fitting.keys() == attention | {'iteration'} and len(attention) == 13
    for ours, other in (('generator.conv_blocks.2.', 'generator.conv_blocks.4.'), ('discriminator.conv_blocks.3.',) * 2):
        same = [key.removeprefix(ours) for key in own if key.startswith(ours) and 'embedding' not in key]
        assert len(same) > 10 and all(torch.equal(fitting[ours + key], theirs[other + key]) for key in same)


@pytest.mark.parametrize(
    'options, class_embeddings, named',
    [
        (dict(generator=dict(noise_size=8)), 'mean', r'generator\.noise2feat.*\(128, 16\).*\(128, 8\).*noise_size'),
        (dict(discriminator=dict(base_channels=16)), 'mean', r'discriminator\.from_rgb\.conv_1\.bias.*\(8,\).*\(16,\)'),
        ({}, 'means', 'each of the 3 new ones'),
        ({}, {0: 1, 1: 2, 2: 5}, '5 is.*checkpoint.*5 classes'),
        ({}, {0: 1, 1: 2, 'd': 3}, "'d' is.*data.*3 classes are a, b, c"),
    ],
)
def test_what_does_not_fit(gan_config, options, class_embeddings, named):
    source, model = MODELS.build(gan_config(5)), MODELS.build(gan_config(3, **options))
    with pytest.raises(ConfigError, match=named):
        transfer_weights(model.state_dict(), source.state_dict(), class_embeddings, ('a', 'b', 'c'))
