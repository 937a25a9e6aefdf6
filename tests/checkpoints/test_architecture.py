"""The architecture is inferred from tensors alone, at any width, number of classes and size, and compared with a model's."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmsagan.apis import init_model
from mmsagan.checkpoints import check_compatibility, studiogan
from mmsagan.checkpoints.architecture import ModelSettings, get_cfg_options, infer_architecture
from mmsagan.checkpoints.publish import publish
from mmsagan.engine.config import load_config
from mmsagan.errors import CheckpointError
from mmsagan.models import ProjDiscriminator
from mmsagan.models.regularizers import Regularizer
from mmsagan.registry import MODELS

INPLACE = dict(type='ReLU', inplace=True)
SUBSTITUTE = dict(type='ResidualAttentionSubstitute')
OTHER_ATTENTION = dict(type='SelfAttentionBlock', query_key_reduction=4, value_reduction=8)


def make_config(num_classes: int, scale: int, width: int, generator: dict, discriminator: dict) -> dict:
    generator = dict(output_scale=scale, base_channels=width, act_cfg=INPLACE) | generator
    discriminator = dict(input_scale=scale, base_channels=width, act_cfg=INPLACE) | discriminator
    networks = dict(
        generator=dict(type='SAGANGenerator', **generator), discriminator=dict(type='ProjDiscriminator', **discriminator)
    )
    return dict(type='SAGAN', num_classes=num_classes, **networks)


def attend(after: int | list[int], attention_cfg: dict | None = None, **others) -> dict:
    return dict(attention_after_nth_block=after, **others) | (dict(attention_cfg=attention_cfg) if attention_cfg else {})


NORMALIZED = dict(with_spectral_norm=True)
DOWN_64, DOWN_256 = [True] * 3 + [False], [True] * 5 + [False]
WIDTHS_256 = dict(channels_cfg=[16, 16, 8, 8, 4, 2]), dict(channels_cfg=[2, 4, 8, 8, 16, 16], downsample_cfg=DOWN_256)
GREY_G = dict(input_scale=8, channels_cfg=[2], out_channels=1, with_embedding_spectral_norm=False)
GREY_D = dict(channels_cfg=[2], downsample_cfg=[False], input_channels=1)
CONFIGS = {
    'small': make_config(3, 32, 8, attend(2, noise_size=16, **NORMALIZED), attend(1, base_channels=16)),
    '128 pixels': make_config(7, 128, 8, attend(4, **NORMALIZED), attend(1)),
    '64 pixels as in StudioGAN': make_config(2, 64, 8, attend(3, **NORMALIZED), attend(2, downsample_cfg=DOWN_64)),
    '256 pixels as in StudioGAN': make_config(2, 256, 2, NORMALIZED | WIDTHS_256[0], WIDTHS_256[1]),
    'SNGAN': make_config(4, 32, 8, {}, {}),
    'noise in norms': make_config(3, 32, 8, dict(noise_in_norms=True), {}),
    'unconditional': make_config(0, 32, 8, dict(use_cbn=False, **NORMALIZED), dict(with_spectral_norm=False)),
    'two attentions of other widths': make_config(3, 32, 16, attend([1, 3], OTHER_ATTENTION), attend(4, base_channels=8)),
    'residual blocks in the place of attention': make_config(
        3, 32, 8, attend(2, SUBSTITUTE, **NORMALIZED), attend(1, SUBSTITUTE, with_spectral_norm=False)
    ),
    'plain embeddings, grey, 16 pixels': make_config(3, 16, 8, NORMALIZED | GREY_G, GREY_D),
}


@pytest.mark.parametrize('kind', list(CONFIGS))
def test_the_described_model_is_the_one_that_was_built(kind):
    cfg = CONFIGS[kind]
    tables = {64: DOWN_64, 256: DOWN_256, 16: [False]}
    model = MODELS.build(cfg)
    table = lambda scale: tables.get(scale, ProjDiscriminator.default_downsample.get(scale))  # noqa: E731
    inferred = infer_architecture(model.state_dict(), ModelSettings(inplace=True), table)
    again = MODELS.build(inferred)
    again.load_state_dict(model.state_dict())
    noise, label = torch.randn(2, model.noise_size), torch.tensor([1, 0]) if model.num_classes else None
    images = model.sample(noise, label)
    assert torch.equal(again.sample(noise, label), images)
    assert torch.equal(again.eval().discriminator(images, label), model.eval().discriminator(images, label))
    assert get_cfg_options(inferred, cfg) == {}


def test_options_turn_one_config_into_another(gan_config):
    wide = MODELS.build(gan_config(num_classes=5))
    inferred = infer_architecture(wide.state_dict(), ModelSettings(), ProjDiscriminator.default_downsample.get)
    assert get_cfg_options(inferred, gan_config(num_classes=3)) == {'model.num_classes': 5}
    cfg = Config(dict(model=gan_config(num_classes=3)))
    cfg.merge_from_dict(get_cfg_options(inferred))
    MODELS.build(cfg.model).load_state_dict(wide.state_dict())


def test_what_cannot_be_seen_is_assumed():
    state = MODELS.build(CONFIGS['64 pixels as in StudioGAN']).state_dict()
    unknown = infer_architecture(state, ModelSettings(), lambda scale: None)
    assert unknown['discriminator']['downsample_cfg'] == [True, True, True, False]
    known = infer_architecture(state, ModelSettings(), studiogan.get_downsample_cfg)
    assert known['discriminator']['downsample_cfg'] == [True, True, True, False]
    openmmlab = infer_architecture(state, ModelSettings(), ProjDiscriminator.default_downsample.get)
    assert openmmlab['discriminator']['downsample_cfg'] == [True] * 4


@pytest.mark.parametrize('scale, halvings', [(32, 2), (64, 4), (128, 5), (256, 6), (512, 7)])
def test_studiogans_table_halves_down_to_the_size_that_it_sums_over(scale, halvings):
    assert 1 + sum(studiogan.get_downsample_cfg(scale)) == halvings


def test_a_generator_alone_gets_a_discriminator_of_its_size(gan_config):
    state = {key: t for key, t in MODELS.build(gan_config()).state_dict().items() if key.startswith('generator.')}
    inferred = infer_architecture(state, ModelSettings(), lambda scale: None)
    model = MODELS.build(inferred)
    assert model.discriminator(model.sample(num_samples=1), torch.tensor([0])).shape == (1, 1)


def stated(**changes) -> dict:
    """The metadata of a checkpoint whose config has these arguments of the generator."""
    generator = dict(type='SAGANGenerator', **changes)
    return dict(cfg=f"model = dict(generator={generator!r}, discriminator=dict(type='ProjDiscriminator'))")


@pytest.mark.parametrize(
    'meta',
    [
        {},
        stated(init_cfg=dict(type='os.system')),
        stated(norm_eps='1'),
        dict(cfg='model = dict(generator=dict(type=exit()))'),
        dict(cfg="model = dict(generator=dict(type='Mine'), discriminator=dict(type='ProjDiscriminator'))"),
    ],
)
def test_invalid_metadata_is_ignored(meta):
    assert ModelSettings.from_meta(meta) is None


@pytest.mark.parametrize(
    'config, expected',
    [
        ('sagan_32_wReLUinplace_cifar10_b64x1', ModelSettings(inplace=True)),
        ('sagan_128_woReLUinplace_noaug_bigGAN_imagenet1k_b32x8', ModelSettings(False, 1e-5, 1e-8, 'BigGAN')),
    ],
)
def test_settings_of_a_trainings_config(gan_config, config, expected):
    assert ModelSettings.from_meta(dict(cfg=load_config(f'configs/sagan/{config}.py').pretty_text)) == expected
    cfg = gan_config(generator=dict(attention_cfg=dict(type='SelfAttentionBlock', pool=False)))
    assert ModelSettings.from_meta(dict(cfg=f'model = {cfg!r}')) is None, 'this attention cannot be inferred'


def test_moving_averages(gan_config):
    averaging, plain = MODELS.build(gan_config(ema_config=dict(momentum=0.9))), MODELS.build(gan_config())
    state = plain.state_dict()
    assert ['no moving average' in warning for warning in check_compatibility(averaging, state)] == [True]
    assert torch.equal(state['generator_ema.to_rgb.conv.weight_orig'], state['generator.to_rgb.conv.weight_orig'])
    warnings = check_compatibility(plain, averaging.state_dict())
    assert ['model.ema_config' in warning for warning in warnings] == [True]
    with pytest.raises(CheckpointError, match='bogus'):
        check_compatibility(averaging, {**averaging.state_dict(), 'generator_ema.bogus': torch.zeros(1)})


def test_a_generator_alone(gan_config):
    model = MODELS.build(gan_config())
    state = {key: tensor for key, tensor in model.state_dict().items() if key.startswith('generator.')}
    assert ['no discriminator' in warning for warning in check_compatibility(model, state)] == [True]
    state['discriminator.decision.bias'] = torch.zeros(1)
    with pytest.raises(CheckpointError, match='discriminator.*missing'):
        check_compatibility(model, state)


@pytest.mark.parametrize(
    'changes, expected',
    [
        (dict(discriminator=dict(act_cfg=INPLACE)), ['act_cfg.inplace=True']),
        (dict(generator=dict(norm_eps=1e-5)), ['norm_eps=1e-05']),
        (dict(generator=dict(init_cfg=dict(type='SAGAN'))), ['init_cfg.type=SAGAN']),
        ({}, []),
    ],
)
def test_differences_that_no_tensor_shows(gan_config, changes, expected):
    model = MODELS.build(gan_config())
    meta = dict(cfg=f'model = {gan_config(**changes)!r}')
    warnings = check_compatibility(model, dict(state_dict=model.state_dict(), meta=meta))
    assert len(warnings) == len(expected) and all(text in warning for text, warning in zip(expected, warnings))


def test_another_architecture_is_an_error(gan_config):
    model, state = MODELS.build(gan_config(num_classes=3)), MODELS.build(gan_config(num_classes=5)).state_dict()
    with pytest.raises(CheckpointError, match=r'weight_embedding.*\(5, .*\(3, '):
        check_compatibility(model, state)
    with pytest.raises(CheckpointError, match='fc.weight'):
        check_compatibility(model, {**model.state_dict(), 'fc.weight': torch.ones(1)})


class RegularizerWithState(Regularizer):
    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.register_buffer('mean', torch.zeros(size))


def test_states_of_augmentation_and_regularizers_are_optional(gan_config, tmp_path):
    """A checkpoint with them fits a model without or with others, and one without fits a model with them."""
    plain = MODELS.build(gan_config())
    extras = [
        dict(
            augment=dict(type=nn.BatchNorm2d, num_features=3), regularizers=dict(own=dict(type=RegularizerWithState, size=size))
        )
        for size in (2, 5)
    ]
    full, other = (MODELS.build(gan_config(**extra)) for extra in extras)
    torch.nn.init.ones_(full.regularizers['own'].mean)
    assert check_compatibility(full, state := full.state_dict()) == [] and state.keys() == full.state_dict().keys()
    assert torch.equal(state['regularizers.own.mean'], torch.ones(2))
    state['augment.running_mean'] += 4
    torch.save(dict(state_dict=state, meta=dict(cfg=f'model = {gan_config()!r}')), tmp_path / 'full.pth')
    assert check_compatibility(plain, state) == [] and state.keys() == plain.state_dict().keys()
    assert check_compatibility(full, state) == [] and state.keys() == full.state_dict().keys()
    state = torch.load(tmp_path / 'full.pth')['state_dict']
    assert check_compatibility(other, state) == []
    assert torch.equal(state['augment.running_mean'], torch.full((3,), 4.0)) and len(state['regularizers.own.mean']) == 5
    other.load_state_dict(state)

    published, dropped = publish(tmp_path / 'full.pth', tmp_path / 'published.pth')
    assert {'augment', 'regularizers'} <= set(dropped)
    assert torch.load(published)['state_dict'].keys() == plain.state_dict().keys()
    noise, label = torch.randn(2, 16), torch.arange(2)
    for checkpoint in (tmp_path / 'full.pth', published):
        for config in (None, Config(dict(model=gan_config())), Config(dict(model=gan_config(**extras[1])))):
            model = init_model(config, checkpoint)
            assert torch.equal(model.sample(noise, label), full.eval().sample(noise, label))
