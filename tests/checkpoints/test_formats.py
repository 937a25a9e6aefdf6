"""Every format against the reference's own code: names, bits, settings, and no key passed over."""

import pytest
import torch

from mmsagan.checkpoints import convert, load_checkpoint_file, openmmlab, studiogan
from mmsagan.checkpoints.architecture import ModelSettings
from mmsagan.checkpoints.convert import from_openmmlab, from_studiogan
from mmsagan.checkpoints.rules import KeyTable
from mmsagan.errors import CheckpointError
from mmsagan.registry import MODELS


@pytest.mark.parametrize('network, path', [('G', 'path'), ('D', 'discriminator')])
def test_names_are_the_references(fixture_of, network, path):
    """keys.txt lists the names and shapes that the reference's code gave its tensors."""
    fixture = fixture_of('studiogan_current_32')
    conversion = from_studiogan(load_checkpoint_file(fixture.path), load_checkpoint_file(fixture.discriminator))
    name = dict(G='generator', D='discriminator')[network]
    ours = {key.partition('.')[2]: tensor for key, tensor in conversion.state_dict.items() if key.startswith(f'{name}.')}
    table = studiogan.GENERATOR if network == 'G' else studiogan.DISCRIMINATOR
    lines = (fixture.folder / 'keys.txt').read_text().splitlines()
    listed = [line.removeprefix(f'{network}.') for line in lines if line.startswith(f'{network}.')]
    assert sorted(f'{key} {tuple(tensor.shape)}' for key, tensor in table.translate(ours, 'foreign').items()) == sorted(listed)


def test_legacy_studiogan_there_and_back_is_bit_identical(fixture_of):
    fixture = fixture_of('studiogan_legacy_32')
    legacy = KeyTable(studiogan._GENERATOR + studiogan._EMBEDDINGS)
    for path, network in ((fixture.path, legacy), (fixture.discriminator, studiogan.DISCRIMINATOR)):
        state = load_checkpoint_file(path)['state_dict']
        back = network.translate(network.translate(state, 'ours'), 'foreign')
        assert list(back) == list(state)
        for key, tensor in state.items():
            assert back[key].dtype == tensor.dtype and back[key].shape == tensor.shape and torch.equal(back[key], tensor), key


def test_prefixes_of_wrappers(fixture_of):
    content = load_checkpoint_file(fixture_of('studiogan_current_32').path)
    plain = from_studiogan(content)
    content['state_dict'] = {f'module.{key}': tensor for key, tensor in content['state_dict'].items()}
    wrapped = from_studiogan(content)
    assert wrapped.format == convert.STUDIOGAN
    assert all(torch.equal(wrapped.state_dict[key], tensor) for key, tensor in plain.state_dict.items())


def test_averaged_generators(fixture_of):
    """StudioGAN has a file for it, MMagic wraps it in a module that counts steps, MMGeneration does not."""
    content = load_checkpoint_file(fixture_of('studiogan_legacy_32').path)
    conversion = from_studiogan(content, None, content)
    assert torch.equal(conversion.state_dict['generator_ema.to_rgb.bn.weight'], content['state_dict']['bn4.weight'])
    for prefix, extra in (('generator_ema.module.', {'generator_ema.steps': torch.tensor(3)}), ('generator_ema.', {})):
        content = load_checkpoint_file(fixture_of('mmagic_32_wReLUinplace').path)
        state = content['state_dict']
        for key in [key for key in state if key.startswith('generator.')]:
            state[key.replace('generator.', prefix)] = state[key]
        state.update(extra)
        conversion = from_openmmlab(content)
        average, generator = (
            {key.removeprefix(name): t for key, t in conversion.state_dict.items() if key.startswith(name)}
            for name in ('generator_ema.', 'generator.')
        )
        assert list(average) == list(generator) and all(torch.equal(average[key], generator[key]) for key in average)
        assert ('generator_ema.steps' in conversion.dropped) == bool(extra)


def test_swapping_red_and_blue_twice_changes_no_bit(fixture_of):
    state = from_openmmlab(load_checkpoint_file(fixture_of('mmagic_32_wReLUinplace').path)).state_dict
    swapped = openmmlab.swap_red_and_blue(state)
    changed = {key for key in state if not torch.equal(swapped[key], state[key])}
    assert changed == {
        *(f'generator.to_rgb.conv.{name}' for name in ('weight_orig', 'weight_u', 'bias')),
        *(f'discriminator.from_rgb.{conv}.{name}' for conv in ('conv_1', 'shortcut') for name in ('weight_orig', 'weight_v')),
    }
    assert all(torch.equal(tensor, state[key]) for key, tensor in openmmlab.swap_red_and_blue(swapped).items())


@pytest.mark.parametrize(
    'path, options, is_bgr, inplace',
    [
        ('sagan_cifar10_32_lr2e-4_ndisc5_b64x1_woReUinplace_is-iter400000_20210730_125743-4008a9ca.pth', {}, True, False),
        ('sagan_32_cifar10_convert-studio-rgb_20210730_153321-080da7e2.pth', {}, False, True),
        ('work_dirs/sagan_32_wReLUinplace/iter_1.pth', {}, True, True),
        ('iter_1.pth', {}, True, False),
        ('convert-studio-rgb.pth', dict(channel_order='bgr', inplace=False), True, False),
    ],
)
def test_published_names_and_options_that_override_them(fixture_of, path, options, is_bgr, inplace):
    content = load_checkpoint_file(fixture_of('mmagic_32_wReLUinplace').path)
    conversion = from_openmmlab(content, path, **options)
    bias = content['state_dict']['generator.to_rgb.conv.bias']
    assert torch.equal(conversion.state_dict['generator.to_rgb.conv.bias'], bias.flip(0) if is_bgr else bias)
    assert conversion.settings.inplace == inplace
    assert any('channel order' in note for note in conversion.notes) != bool(options), 'what was assumed is noted'


@pytest.mark.parametrize(
    'generator, expected',
    [
        (dict(init_cfg=dict(type='studio')), ModelSettings(True)),
        (dict(init_cfg=dict(type='SNGAN')), ModelSettings(True, init='SAGAN')),
        (dict(init_cfg=dict(type='BigGAN'), with_embedding_spectral_norm=False), ModelSettings(True, 1e-5, 1e-8, 'BigGAN')),
    ],
)
def test_settings_are_guessed_from_the_weights(gan_config, generator, expected):
    model = MODELS.build(gan_config(generator=generator))
    model.init_weights()
    assert convert.guess_settings(model.state_dict(), inplace=True) == expected


CHANGES = {
    'conv_blocks.1.conv_1.bias is missing': {'blocks.1.0.conv2d1.bias': None},
    'conv_blocks.1 is missing': {f'blocks.1.0.{key}': None for key in ('conv2d', 'bn')},
    r'conv_blocks.1.conv_1.bias .*\(7,\).*\(32,\)': {'blocks.1.0.conv2d1.bias': torch.zeros(7)},
    'shared.weight': {'shared.weight': torch.zeros(7)},  # of StudioGAN's BigGAN
    'to_rgb.bn.weight': {'bn4.weight': torch.zeros(31)},
}


@pytest.mark.parametrize('named', CHANGES)
def test_every_key_counts(fixture_of, named):
    state = load_checkpoint_file(fixture_of('studiogan_current_32').path)['state_dict']
    for prefix, tensor in CHANGES[named].items():
        state = {key: value for key, value in state.items() if not key.startswith(prefix)}
        state.update({} if tensor is None else {prefix: tensor})
    with pytest.raises(CheckpointError, match=named):
        from_studiogan(state)
