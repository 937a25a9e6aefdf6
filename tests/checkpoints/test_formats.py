"""Every format against the reference's own code: outputs, names, and nothing passed over."""

import numpy as np
import pytest
import torch

from mmsagan.checkpoints import convert as formats
from mmsagan.checkpoints import load_checkpoint_file, openmmlab, studiogan
from mmsagan.checkpoints.architecture import ModelSettings, infer_architecture
from mmsagan.checkpoints.convert import get_state_dict
from mmsagan.errors import CheckpointError
from mmsagan.registry import MODELS


def convert(reference) -> formats.Conversion:
    content = load_checkpoint_file(reference.path)
    if reference.is_bgr:
        return formats.from_openmmlab(content, reference.path)
    return formats.from_studiogan(content, load_checkpoint_file(reference.discriminator))


def build(conversion):
    model = MODELS.build(conversion.architecture.model)
    missing, unknown = model.load_state_dict(conversion.state_dict, strict=False)
    assert not unknown and set(missing) <= {'iteration'}
    return model.eval()


def test_outputs_of_the_reference_code(reference):
    reference.check(build(convert(reference)))


def test_formats_are_told_apart_by_content(reference):
    expected = {
        'mmagic_32_wReLUinplace': formats.OPENMMLAB,
        'mmagic_32_woReLUinplace': formats.OPENMMLAB,
        'studiogan_current_32': formats.STUDIOGAN,
        'studiogan_legacy_32': formats.LEGACY_STUDIOGAN,
    }
    assert formats.detect_format(load_checkpoint_file(reference.path)['state_dict']) == expected[reference.folder.name]
    assert formats.detect_format(convert(reference).state_dict) == formats.OURS


def test_architecture_and_behaviour(reference):
    conversion = convert(reference)
    g, d = conversion.architecture.generator, conversion.architecture.discriminator
    # What FACTS says of the fixtures.
    assert (g['output_scale'], g['base_channels'], g['channels_cfg'], g['noise_size']) == (32, 32, [1, 1, 1], 128)
    assert (d['input_scale'], d['base_channels'], d['downsample_cfg']) == (32, 16, [True, False, False])
    assert (g['attention_after_nth_block'], d['attention_after_nth_block']) == (2, 1)
    assert conversion.architecture.num_classes == 10
    assert conversion.settings.inplace == (reference.folder.name != 'mmagic_32_woReLUinplace')
    assert not conversion.architecture.notes


@pytest.mark.parametrize('network, path', [('G', 'path'), ('D', 'discriminator')])
def test_names_are_the_references(fixture_of, network, path):
    """keys.txt lists what the reference's code gave its tensors for names and shapes."""
    fixture = fixture_of('studiogan_current_32')
    conversion = convert(fixture)
    name = dict(G='generator', D='discriminator')[network]
    ours = {key.partition('.')[2]: tensor for key, tensor in conversion.state_dict.items() if key.startswith(f'{name}.')}
    table = studiogan.GENERATOR if network == 'G' else studiogan.DISCRIMINATOR
    lines = (fixture.folder / 'keys.txt').read_text().splitlines()
    listed = [line.removeprefix(f'{network}.') for line in lines if line.startswith(f'{network}.')]
    assert sorted(f'{key} {tuple(tensor.shape)}' for key, tensor in table.to_foreign(ours).items()) == sorted(listed)


@pytest.mark.parametrize(
    'name, table', [('studiogan_current_32', studiogan.GENERATOR), ('studiogan_legacy_32', studiogan.LEGACY_GENERATOR)]
)
def test_studiogan_there_and_back_is_bit_identical(fixture_of, name, table):
    fixture = fixture_of(name)
    for path, network in ((fixture.path, table), (fixture.discriminator, studiogan.DISCRIMINATOR)):
        state = load_checkpoint_file(path)['state_dict']
        back = network.to_foreign(network.to_ours(state)[0])
        assert list(back) == list(state)
        for key, tensor in state.items():
            assert back[key].dtype == tensor.dtype and back[key].shape == tensor.shape and torch.equal(back[key], tensor), key


def test_prefixes_of_wrappers(fixture_of):
    fixture = fixture_of('studiogan_current_32')
    plain = convert(fixture)
    contents = [load_checkpoint_file(path) for path in (fixture.path, fixture.discriminator)]
    for content in contents:
        content['state_dict'] = {f'module.{key}': tensor for key, tensor in content['state_dict'].items()}
    wrapped = formats.from_studiogan(*contents)
    assert wrapped.format == formats.STUDIOGAN
    assert all(torch.equal(wrapped.state_dict[key], tensor) for key, tensor in plain.state_dict.items())


def test_averaged_generators(fixture_of):
    """StudioGAN has a file for it, MMagic wraps it in a module that counts steps, MMGeneration does not."""
    fixture = fixture_of('studiogan_legacy_32')
    content = load_checkpoint_file(fixture.path)
    conversion = formats.from_studiogan(content, None, content)
    assert torch.equal(conversion.state_dict['generator_ema.to_rgb.bn.weight'], content['state_dict']['bn4.weight'])
    fixture = fixture_of('mmagic_32_wReLUinplace')
    for prefix, extra in (('generator_ema.module.', {'generator_ema.steps': torch.tensor(3)}), ('generator_ema.', {})):
        content = load_checkpoint_file(fixture.path)
        state = content['state_dict']
        for key in [key for key in state if key.startswith('generator.')]:
            state[key.replace('generator.', prefix)] = state[key]
        state.update(extra)
        conversion = formats.from_openmmlab(content)
        average, generator = (
            {key.removeprefix(name): t for key, t in conversion.state_dict.items() if key.startswith(name)}
            for name in ('generator_ema.', 'generator.')
        )
        assert list(average) == list(generator) and all(torch.equal(average[key], generator[key]) for key in average)
        assert ('generator_ema.steps' in conversion.dropped) == bool(extra)


def test_swapping_red_and_blue_twice_changes_no_bit(fixture_of):
    state = convert(fixture_of('mmagic_32_wReLUinplace')).state_dict
    swapped = openmmlab.swap_red_and_blue(state)
    changed = {key for key in state if not torch.equal(swapped[key], state[key])}
    assert changed == {
        *(f'generator.to_rgb.conv.{name}' for name in ('weight_orig', 'weight_u', 'bias')),
        *(f'discriminator.from_rgb.{conv}.{name}' for conv in ('conv_1', 'shortcut') for name in ('weight_orig', 'weight_v')),
    }
    assert all(torch.equal(tensor, state[key]) for key, tensor in openmmlab.swap_red_and_blue(swapped).items())


@pytest.mark.parametrize(
    'path, is_bgr, inplace',
    [
        ('sagan_cifar10_32_lr2e-4_ndisc5_b64x1_woReUinplace_is-iter400000_20210730_125743-4008a9ca.pth', True, False),
        ('sagan_cifar10_32_lr2e-4_ndisc5_b64x1_wReLUinplace_is-iter380000_20210730_124937-c77b4d25.pth', True, True),
        ('sagan_32_cifar10_convert-studio-rgb_20210730_153321-080da7e2.pth', False, True),
        ('work_dirs/sagan_32_wReLUinplace/iter_1.pth', True, True),
        ('iter_1.pth', True, False),
    ],
)
def test_what_published_names_say(fixture_of, path, is_bgr, inplace):
    content = load_checkpoint_file(fixture_of('mmagic_32_wReLUinplace').path)
    conversion = formats.from_openmmlab(content, path)
    bias = content['state_dict']['generator.to_rgb.conv.bias']
    assert torch.equal(conversion.state_dict['generator.to_rgb.conv.bias'], bias.flip(0) if is_bgr else bias)
    assert conversion.settings.inplace == inplace
    assert any('channel order' in note for note in conversion.notes), 'what was assumed is said'


def test_flags_overrule_names(fixture_of):
    content = load_checkpoint_file(fixture_of('mmagic_32_wReLUinplace').path)
    conversion = formats.from_openmmlab(content, 'convert-studio-rgb.pth', channel_order='bgr', inplace=False)
    bias = content['state_dict']['generator.to_rgb.conv.bias']
    assert torch.equal(conversion.state_dict['generator.to_rgb.conv.bias'], bias.flip(0))
    assert not conversion.settings.inplace


def test_biggan_schedule_is_recognized(gan_config):
    """Its class embeddings are not normalized; its epsilons differ."""
    model = MODELS.build(gan_config(generator=dict(with_embedding_spectral_norm=False, init_cfg=dict(type='BigGAN'))))
    model.init_weights()
    behaviour, note = formats.guess_settings(model.state_dict(), inplace=False)
    assert behaviour == ModelSettings(False, 1e-5, 1e-8, 'BigGAN') and 'BigGAN' in note[0]


@pytest.mark.parametrize('init, expected', [('studio', 'studio'), ('SAGAN', 'SAGAN'), ('SNGAN', 'SAGAN')])
def test_whether_one_is_added_to_scales(gan_config, init, expected):
    model = MODELS.build(gan_config(generator=dict(init_cfg=dict(type=init))))
    model.init_weights()
    behaviour, note = formats.guess_settings(model.state_dict(), inplace=True)
    assert behaviour == ModelSettings(True, init=expected) and bool(note) == (expected != 'studio')


def test_training_state_is_kept_if_plain(fixture_of):
    fixture = fixture_of('studiogan_current_32')
    contents = [load_checkpoint_file(path) for path in (fixture.path, fixture.discriminator)]
    contents[1]['best_fid'] = np.float64(3.5)
    contents[1]['logger'] = torch.zeros(2)
    conversion = formats.from_studiogan(*contents)
    assert conversion.training['run_name'] == 'fixture' and conversion.training['best_fid'] == 3.5
    assert type(conversion.training['best_fid']) is float
    assert 'logger (discriminator)' in conversion.dropped and 'optimizer (generator)' in conversion.dropped


def broken(content, kind):
    state = content['state_dict']
    if kind == 'missing':
        del state['blocks.1.0.conv2d1.bias']
    elif kind == 'missing block':
        for key in [key for key in state if key.startswith('blocks.1.')]:
            del state[key]
    elif kind == 'reshaped':
        state['blocks.1.0.conv2d1.bias'] = torch.zeros(7)
    elif kind == 'unknown':
        state['shared.weight'] = torch.zeros(7)  # of StudioGAN's BigGAN
    elif kind == 'other width':
        state['bn4.weight'] = torch.zeros(31)
    return content


@pytest.mark.parametrize(
    'kind, message',
    [
        ('missing', 'blocks.1.0.conv2d1.bias is missing'),
        ('missing block', 'conv_blocks.1 is missing'),
        ('reshaped', r'blocks.1.0.conv2d1.bias does not fit: here, it is \(7,\) and should be \(32,\)'),
        ('unknown', 'shared.weight'),
        ('other width', 'bn4.weight does not fit'),
    ],
)
def test_every_key_counts(fixture_of, kind, message):
    content = broken(load_checkpoint_file(fixture_of('studiogan_current_32').path), kind)
    with pytest.raises(CheckpointError, match=message):
        formats.from_studiogan(content)


def test_networks_in_each_others_place(fixture_of):
    fixture = fixture_of('studiogan_current_32')
    generator, discriminator = (load_checkpoint_file(path) for path in (fixture.path, fixture.discriminator))
    with pytest.raises(CheckpointError, match="given as generator is not StudioGAN's G"):
        formats.from_studiogan(discriminator, generator)
    with pytest.raises(CheckpointError, match="given as discriminator is not StudioGAN's D"):
        formats.from_studiogan(generator, generator)


@pytest.mark.parametrize(
    'content',
    [[1, 2], dict(state_dict={}), dict(a=1), torch.zeros(2), dict(state_dict=dict(a='text')), {0: torch.zeros(2)}],
)
def test_no_networks(content):
    with pytest.raises(CheckpointError, match='no networks'):
        get_state_dict(content)


def test_an_architecture_that_is_described_from_nothing():
    with pytest.raises(CheckpointError, match='no generator'):
        infer_architecture({'discriminator.decision.weight': torch.ones(1, 1)}, ModelSettings(), lambda scale: None)
