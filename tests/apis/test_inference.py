import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmsagan.apis import inference, init_model
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.convert import convert_checkpoint
from mmsagan.checkpoints.publish import publish
from mmsagan.errors import CheckpointError, ConfigError

SMALL = {'model.generator.base_channels': 32, 'model.discriminator.base_channels': 16}
CONFIGS = {
    'mmagic_32_wReLUinplace': 'sagan_32_wReLUinplace_cifar10_b64x1',
    'mmagic_32_woReLUinplace': 'sagan_32_woReLUinplace_cifar10_b64x1',
    'studiogan_current_32': 'sagan_32_cvt_studioGAN',
    'studiogan_legacy_32': 'sagan_32_cvt_studioGAN',
}


def test_any_format_into_its_config_and_without_one(reference, monkeypatch):
    reference.check(init_model(None, reference.path))
    config = CONFIGS[reference.folder.name]
    weights = {config: SimpleNamespace(weights=str(reference.path))}
    monkeypatch.setattr(inference, 'resolve_model', weights.__getitem__)
    model = init_model(config, 'zoo', cfg_options=SMALL)
    assert not model.training and model.cfg.model.generator.base_channels == 32
    reference.check(model)


def test_converted_and_published_files(reference, tmp_path):
    convert_checkpoint(reference.path, tmp_path / 'converted.pth')
    reference.check(init_model(None, tmp_path / 'converted.pth'))
    path, _ = publish(tmp_path / 'converted.pth', tmp_path / 'published.safetensors')
    reference.check(init_model(CONFIGS[reference.folder.name], path, cfg_options=SMALL))


def test_without_a_checkpoint_the_weights_are_initialized(gan_config):
    cfg = Config(dict(model=gan_config(ema_config=dict(momentum=0.9))))
    model = init_model(cfg, cfg_options={'model.num_classes': 5})
    weight = model.generator.noise2feat.weight_orig.detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(len(weight.T)))  # orthogonal, as the scheme "studio" says
    assert torch.equal(model.generator_ema.noise2feat.weight_orig, weight)
    assert model.num_classes == 5 and cfg.model.num_classes == 3, "the caller's config is left alone"


def test_warnings(fixture_of, tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(inference, 'print_log', lambda message, *args: messages.append(message))
    init_model(CONFIGS['mmagic_32_woReLUinplace'], fixture_of('studiogan_current_32').path, cfg_options=SMALL)
    assert ['model.discriminator.act_cfg.inplace=True' in message for message in messages] == [True]
    fixture = fixture_of('studiogan_legacy_32')
    shutil.copy(fixture.path, tmp_path / 'alone.pth')
    model = init_model(None, tmp_path / 'alone.pth')
    torch.testing.assert_close(model.sample(fixture.noise, fixture.label), fixture.images, atol=1e-4, rtol=0)
    assert len(messages) == 2 and 'no discriminator' in messages[1]


MISTAKES = {
    'path.*generator.*shape': lambda files: (CONFIGS['studiogan_current_32'], files['path']),
    'other.pth': lambda files: (CONFIGS['studiogan_current_32'], files['other']),
    "discriminator.*StudioGAN's G": lambda files: (CONFIGS['studiogan_current_32'], files['discriminator']),
    'give the config': lambda files: (None, files['other']),
    'zoo': lambda files: (None, 'zoo'),
    'model': lambda files: (Config(dict(a=1)), None),
}


@pytest.mark.parametrize('named', list(MISTAKES))
def test_mistakes(fixture_of, tmp_path, named):
    fixture = fixture_of('studiogan_current_32')
    files = dict(path=tmp_path / 'path', discriminator=tmp_path / 'discriminator', other=tmp_path / 'other.pth')
    shutil.copy(fixture.path, files['path'])
    shutil.copy(fixture.discriminator, files['discriminator'])
    torch.save(dict(state_dict={'fc.weight': torch.ones(1)}), files['other'])
    with pytest.raises((ConfigError, CheckpointError), match=named):
        init_model(*MISTAKES[named](files))


def test_a_device_that_is_not_there(gan_config):
    with pytest.raises(ConfigError, match='toaster'):
        init_model(Config(dict(model=gan_config())), device='toaster')


def test_a_checkpoint_cannot_name_code(fixture_of, tmp_path):
    """MMEngine's registries import any name that is given as a type, so only numbers and flags of meta are used."""
    content = load_checkpoint_file(publish(fixture_of('studiogan_current_32').path, tmp_path / 'a.pth')[0])
    cfg = content['meta']['cfg']
    content['meta']['cfg_options']['model.generator.act_cfg'] = dict(type='os.system')
    torch.save(content, tmp_path / 'changed.pth')
    fixture_of('studiogan_current_32').check(init_model(None, tmp_path / 'changed.pth'))
    for content['meta']['cfg'] in ('raise SystemExit', cfg.replace('studio', 'os.system'), cfg.replace('ReLU', 'os.system')):
        torch.save(content, tmp_path / 'changed.pth')
        with pytest.raises(ConfigError, match='config'):
            init_model(None, tmp_path / 'changed.pth')
