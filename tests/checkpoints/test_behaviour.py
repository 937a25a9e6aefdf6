"""What a checkpoint's notes say is read as data: no code, and nothing but numbers, flags and known names."""

import pytest
from mmengine.config import Config

from mmsagan.checkpoints.architecture import ModelSettings, get_downsample_table, read_model_config
from mmsagan.engine.config import load_config

STATED = dict(inplace=True, norm_eps=1e-5, sn_eps=1e-8, init='BigGAN')


def test_a_converted_checkpoints_note():
    assert ModelSettings.from_meta(dict(behaviour=STATED)) == ModelSettings(**STATED)


@pytest.mark.parametrize(
    'meta',
    [
        {},
        dict(behaviour=3),
        dict(behaviour=dict(inplace='yes')),
        dict(behaviour=dict(STATED, init='os.system')),
        dict(behaviour=dict(STATED, norm_eps='1')),
        dict(cfg=None),
        dict(cfg='model = open("x")'),
        dict(cfg='model = dict(generator=dict(type=exit()))'),
        dict(cfg='not = python ='),
        dict(cfg="model = dict(generator=dict(type='Mine'), discriminator=dict(type='ProjDiscriminator'))"),
    ],
)
def test_what_makes_no_sense_says_nothing(meta):
    assert ModelSettings.from_meta(meta) is None


@pytest.mark.parametrize(
    'config, expected',
    [
        ('sagan_32_woReLUinplace_cifar10_b64x1', ModelSettings()),
        ('sagan_32_wReLUinplace_cifar10_b64x1', ModelSettings(inplace=True)),
        ('sagan_128_woReLUinplace_noaug_bigGAN_imagenet1k_b32x8', ModelSettings(False, 1e-5, 1e-8, 'BigGAN')),
    ],
)
def test_a_trainings_own_config(config, expected):
    """MMEngine writes the config's text into every checkpoint."""
    meta = dict(cfg=load_config(f'configs/sagan/{config}.py').pretty_text)
    assert ModelSettings.from_meta(meta) == expected
    model = Config.fromfile(f'configs/sagan/{config}.py').model
    assert read_model_config(meta['cfg'])['generator'] == model.generator


def test_attention_of_another_form_is_not_the_usual(gan_config):
    cfg = gan_config(generator=dict(attention_cfg=dict(type='SelfAttentionBlock', pool=False)))
    assert ModelSettings.from_meta(dict(cfg=f'model = {cfg!r}')) is None


def test_which_blocks_halve_the_size():
    halves = [True, True, True, False]
    assert get_downsample_table(dict(cfg_options={'model.discriminator.downsample_cfg': halves}))(64) == halves
    assert get_downsample_table(dict(cfg=f'model = dict(discriminator=dict(downsample_cfg={halves}))'))(64) == halves
    assert get_downsample_table({})(64) == [True] * 4
