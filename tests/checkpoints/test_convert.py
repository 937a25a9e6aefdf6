"""Files in, files out: round trips to the bit, and no file where something is wrong."""

import pytest
import torch
from mmengine.config import Config

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.architecture import get_cfg_options
from mmsagan.checkpoints.convert import convert_checkpoint, export_studiogan, from_openmmlab, from_studiogan, load_checkpoint
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.registry import MODELS

INPLACE = dict(type='ReLU', inplace=True)


@pytest.fixture
def trained(gan_config, tmp_path):
    """A checkpoint of a small model with a moving average, whose buffers have moved."""
    model = MODELS.build(gan_config(ema_config=dict(momentum=0.9)))
    model.init_weights()
    model.train()
    label = torch.tensor([0, 1, 2])
    model.discriminator(model.generator(torch.randn(3, 16), label=label), label)
    model.generator_ema.to_rgb.conv.bias.data.fill_(0.5)
    model.iteration.fill_(1234)
    path = tmp_path / 'iter_1234.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(iter=1234), optimizer={}), path)
    return path


def assert_same_tensors(ours, others):
    assert set(ours) == set(others)
    for key, tensor in ours.items():
        assert tensor.dtype == others[key].dtype and torch.equal(tensor, others[key]), key


def test_ours_to_studiogan_to_ours_is_bit_identical(trained, tmp_path):
    paths, settings, notes = export_studiogan(trained, tmp_path / 'studio', dist_step=2)
    assert [path.name for path in paths] == [f'model={name}-best-weights-step=617.pth' for name in ('G', 'G_ema', 'D')]
    assert settings['MODEL']['g_conv_dim'] == 2 and settings['MODEL']['d_conv_dim'] == 4
    assert settings['MODEL']['attn_g_loc'] == [2] and settings['DATA'] == dict(img_size=32, num_classes=3)
    assert any('assumed' in note and 'in place' in note for note in notes), 'this checkpoint holds no config'
    generator, average, discriminator = paths
    convert_checkpoint(generator, tmp_path / 'back.pth', discriminator, average)
    state = load_checkpoint_file(trained)['state_dict']
    assert_same_tensors(state, load_checkpoint_file(tmp_path / 'back.pth')['state_dict'])
    assert_same_tensors(state, load_checkpoint(str(generator))['state_dict'])


def test_studiogan_to_ours_to_studiogan_is_bit_identical(fixture_of, tmp_path):
    fixture = fixture_of('studiogan_current_32')
    convert_checkpoint(fixture.path, tmp_path / 'ours.pth', fixture.discriminator)
    paths, _, notes = export_studiogan(tmp_path / 'ours.pth', tmp_path)
    assert not notes
    for path, source in zip(paths, (fixture.path, fixture.discriminator)):
        assert path.name == source.name
        content, expected = load_checkpoint_file(path), load_checkpoint_file(source)
        assert_same_tensors(expected.pop('state_dict'), content.pop('state_dict'))
        assert content == expected, 'step, scores and names, which StudioGAN reads from the file'


def test_a_path_in_a_checkpoint_does_not_become_one_of_the_files(trained, tmp_path):
    content = load_checkpoint_file(trained)
    content['meta']['training'] = dict(step='/../../elsewhere')
    torch.save(content, trained)
    paths, *_ = export_studiogan(trained, tmp_path / 'studio')
    assert [path.name for path in paths][0] == 'model=G-best-weights-step=1234.pth'
    assert {path.parent for path in tmp_path.rglob('*.pth')} == {tmp_path, tmp_path / 'studio'}


def studiogan_config(scale: int) -> dict:
    """A narrow model of StudioGAN's architecture."""
    halves = {32: [True, False, False], 64: [True] * 3 + [False], 128: [True] * 4 + [False], 256: [True] * 5 + [False]}[scale]
    g = dict(type='SAGANGenerator', output_scale=scale, base_channels=4, noise_size=8, with_spectral_norm=True)
    d = dict(type='ProjDiscriminator', input_scale=scale, base_channels=2, downsample_cfg=halves, act_cfg=INPLACE)
    if scale == 256:
        g['channels_cfg'], d['channels_cfg'] = [16, 16, 8, 8, 4, 2], [2, 4, 8, 8, 16, 16]
    return dict(type='SAGAN', num_classes=2, generator=g, discriminator=d)


@pytest.mark.parametrize('scale', [64, 256])
def test_other_sizes(tmp_path, scale):
    """Which blocks of D halve the size is StudioGAN's own choice at each size; a second way through keeps it."""
    cfg = studiogan_config(scale)
    model = MODELS.build(cfg)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=Config(dict(model=cfg)).pretty_text)), tmp_path / 'a.pth')
    paths, settings, notes = export_studiogan(tmp_path / 'a.pth', tmp_path / 'studio')
    assert settings['DATA']['img_size'] == scale and not notes
    conversion = convert_checkpoint(paths[0], tmp_path / 'b.pth', paths[1])
    again, _, _ = export_studiogan(tmp_path / 'b.pth', tmp_path / 'studio2')
    for first, second in zip(paths, again):
        assert_same_tensors(load_checkpoint_file(first)['state_dict'], load_checkpoint_file(second)['state_dict'])
    back = MODELS.build(conversion.model)
    back.load_state_dict(conversion.state_dict)
    image, label = torch.rand(2, 3, scale, scale), torch.tensor([0, 1])
    assert torch.equal(back.eval().discriminator(image, label), model.eval().discriminator(image, label))


def test_other_files_than_those_beside_it(fixture_of, tmp_path):
    reference, other = fixture_of('studiogan_current_32'), tmp_path / 'D.pth'
    content = load_checkpoint_file(reference.discriminator)
    content['state_dict']['linear1.bias'] = content['state_dict']['linear1.bias'] + 1
    torch.save(content, other)
    state = convert_checkpoint(reference.path, tmp_path / 'out.pth', other, reference.path).state_dict
    assert torch.equal(state['discriminator.decision.bias'], content['state_dict']['linear1.bias'])
    assert torch.equal(state['generator_ema.to_rgb.conv.bias'], state['generator.to_rgb.conv.bias'])


@pytest.mark.parametrize(
    'name, given',
    [
        ('studiogan_legacy_32', dict(channel_order='rgb', inplace=False)),
        ('mmagic_32_wReLUinplace', dict(discriminator='D.pth')),
    ],
)
def test_what_does_not_go_with_the_format(fixture_of, tmp_path, name, given):
    with pytest.raises(ConfigError, match='.*'.join(given)):
        convert_checkpoint(fixture_of(name).path, tmp_path / 'out.pth', **given)
    assert not list(tmp_path.iterdir())


def test_written_files_say_what_they_are(reference, tmp_path):
    for name in ('out.pth', 'out.safetensors'):
        conversion = convert_checkpoint(reference.path, tmp_path / name)
        content = load_checkpoint_file(tmp_path / name)
        assert_same_tensors(conversion.state_dict, content['state_dict'])
        assert content['meta']['source'] == conversion.format
        assert content['meta']['cfg_options'] == get_cfg_options(conversion.model)
        namespace = {}
        exec(content['meta']['cfg'], namespace)
        model = MODELS.build(namespace['model'])
        model.load_state_dict(content['state_dict'], strict=False)
        reference.check(model.eval())
    with pytest.raises(CheckpointError, match='out.pth .*MMSAGAN'):
        convert_checkpoint(tmp_path / 'out.pth', tmp_path / 'again.pth')


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(generator=dict(norm_eps=1e-5)), 'epsilon of 1e-05'),
        (dict(generator=dict(with_embedding_spectral_norm=False)), 'spectral norm in some of the layers'),
        (dict(generator=dict(init_cfg=dict(type='SAGAN'))), 'without adding 1'),
        (dict(discriminator=dict(downsample_cfg=[True, True, False])), 'halves the size'),
        (dict(generator=dict(attention_cfg=dict(type='SelfAttentionBlock', value_reduction=8))), 'attention of these widths'),
    ],
)
def test_what_studiogan_has_no_network_for(gan_config, tmp_path, changes, message):
    cfg = gan_config(**changes)
    model = MODELS.build(cfg)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=f'model = {cfg!r}')), tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match=message):
        export_studiogan(tmp_path / 'in.pth', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'key, tensor, message',
    [
        ('linear0.weight_orig', torch.zeros(1).expand(10**9, 10**5), 'does not hold so many numbers'),
        (f'blocks.{"1" * 5000}.0.sigma', torch.zeros(1), 'is not of a network'),
    ],
)
def test_tensors_that_are_no_weights(fixture_of, key, tensor, message):
    content = load_checkpoint_file(fixture_of('studiogan_current_32').path)
    content['state_dict'][key] = tensor
    with pytest.raises(CheckpointError, match=message):
        from_studiogan(content)


def test_networks_of_different_image_sizes(tmp_path):
    """Both are StudioGAN's and would run together; only their sizes say that they do not belong together."""
    files = {}
    for scale in (32, 64):
        cfg = studiogan_config(scale)
        torch.save(dict(state_dict=MODELS.build(cfg).state_dict(), meta=dict(cfg=f'model = {cfg!r}')), tmp_path / 'in.pth')
        files[scale] = export_studiogan(tmp_path / 'in.pth', tmp_path / str(scale))[0]
    with pytest.raises(CheckpointError, match='not one for the generator|no whole|no SAGAN'):
        convert_checkpoint(files[32][0], tmp_path / 'out.pth', files[64][1])
    assert not (tmp_path / 'out.pth').exists()


def test_an_average_alone_becomes_the_generator(fixture_of):
    fixture = fixture_of('mmagic_32_wReLUinplace')
    content = load_checkpoint_file(fixture.path)
    content['state_dict'] = {key.replace('generator.', 'generator_ema.'): t for key, t in content['state_dict'].items()}
    conversion = from_openmmlab(content, fixture.path)
    assert any('only the moving average' in note for note in conversion.notes)
    model = MODELS.build(conversion.model)
    model.load_state_dict(conversion.state_dict)
    fixture.check(model.eval())


@pytest.mark.parametrize('convert', [convert_checkpoint, export_studiogan])
def test_bad_files_leave_no_output(tmp_path, convert):
    path, out = tmp_path / 'file.pth', tmp_path / 'made' / 'out.pth'
    for content in (dict(state_dict={'conv1.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}), dict(epoch=3)):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match='file.pth'):
            convert(path, out)
    with pytest.raises(CheckpointError, match='gone.pth'):
        convert(tmp_path / 'gone.pth', out)
    assert not out.exists() and not list((tmp_path / 'made').glob('*'))


def test_a_good_generator_with_a_bad_discriminator_or_output(fixture_of, tmp_path):
    fixture, bad = fixture_of('studiogan_current_32'), tmp_path / 'truncated.pth'
    bad.write_bytes(fixture.discriminator.read_bytes()[:10_000])
    with pytest.raises(CheckpointError, match='truncated.pth'):
        convert_checkpoint(fixture.path, tmp_path / 'out.pth', bad)
    assert not (tmp_path / 'out.pth').exists()
    with pytest.raises(ConfigError, match=str(tmp_path)):
        convert_checkpoint(fixture.path, tmp_path)
