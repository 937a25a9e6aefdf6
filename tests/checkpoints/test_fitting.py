import shlex

import pytest
import torch

from mmsagan.checkpoints.architecture import check_compatibility, format_options
from mmsagan.errors import CheckpointError
from mmsagan.registry import MODELS


def test_a_whole_checkpoint_needs_no_words(gan_config):
    model = MODELS.build(gan_config())
    assert check_compatibility(model, dict(state_dict=model.state_dict(), meta={})) == []
    assert check_compatibility(model, model.state_dict()) == []


def test_a_missing_average_begins_as_a_copy(gan_config):
    model = MODELS.build(gan_config(ema_config=dict(momentum=0.9)))
    state = MODELS.build(gan_config()).state_dict()
    assert ['no moving average' in warning for warning in check_compatibility(model, state)] == [True]
    assert torch.equal(state['generator_ema.to_rgb.conv.weight_orig'], state['generator.to_rgb.conv.weight_orig'])


def test_an_average_that_the_config_does_not_keep(gan_config):
    state = MODELS.build(gan_config(ema_config=dict(momentum=0.9))).state_dict()
    assert ['model.ema_config' in warning for warning in check_compatibility(MODELS.build(gan_config()), state)] == [True]


def test_a_generator_alone(gan_config):
    model = MODELS.build(gan_config())
    state = {key: tensor for key, tensor in model.state_dict().items() if key.startswith('generator.')}
    assert ['no discriminator' in warning for warning in check_compatibility(model, state)] == [True]
    state['discriminator.decision.bias'] = torch.zeros(1)
    with pytest.raises(CheckpointError, match='is missing'):
        check_compatibility(model, state)


def test_an_unknown_part_of_the_average(gan_config):
    model = MODELS.build(gan_config(ema_config=dict(momentum=0.9)))
    with pytest.raises(CheckpointError, match='bogus'):
        check_compatibility(model, {**model.state_dict(), 'generator_ema.bogus': torch.zeros(1)})


def test_class_embeddings_that_mean_something_else(gan_config):
    """No tensor shows whether 1 is to be added to the scales, and images are wrong if it is not known."""
    behaviour = dict(inplace=False, norm_eps=1e-4, sn_eps=1e-12, init='SAGAN')
    model = MODELS.build(gan_config())
    checkpoint = dict(state_dict=model.state_dict(), meta=dict(behaviour=behaviour))
    assert ['init_cfg.type=SAGAN' in warning for warning in check_compatibility(model, checkpoint)] == [True]
    assert check_compatibility(MODELS.build(gan_config(generator=dict(init_cfg=dict(type='SNGAN')))), checkpoint) == []


@pytest.mark.parametrize(
    'inplace, norm_eps, expected', [(True, 1e-4, ['inplace=True']), (False, 1e-5, ['norm_eps=1e-05']), (False, 1e-4, [])]
)
def test_differences_that_no_tensor_shows(gan_config, inplace, norm_eps, expected):
    model = MODELS.build(gan_config())
    behaviour = dict(inplace=inplace, norm_eps=norm_eps, sn_eps=1e-12, init='studio')
    warnings = check_compatibility(model, dict(state_dict=model.state_dict(), meta=dict(behaviour=behaviour)))
    assert len(warnings) == len(expected) and all(text in warning for text, warning in zip(expected, warnings))


def test_another_width_is_answered_with_the_options_that_fit(gan_config):
    state = MODELS.build(gan_config(num_classes=5)).state_dict()
    with pytest.raises(CheckpointError, match='another architecture.* or set model.num_classes=5$'):
        check_compatibility(MODELS.build(gan_config(num_classes=3)), state)
    with pytest.raises(CheckpointError, match='generator.noise2feat.bias is missing'):
        check_compatibility(MODELS.build(gan_config()), {'fc.weight': torch.ones(1)})


def test_options_as_they_are_typed():
    options = {'model.num_classes': 5, 'model.generator.act_cfg': dict(type='ReLU', inplace=True), 'a': [1, 2], 'b': None}
    assert shlex.split(format_options(options)) == [
        'model.num_classes=5',
        "model.generator.act_cfg={'type':'ReLU','inplace':True}",
        'a=[1,2]',
        'b=None',
    ]
