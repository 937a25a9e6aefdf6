import shutil
import warnings

import pytest
import torch
from mmengine.config import Config

from mmsagan.apis import inference, init_model, train_from_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.convert import convert_checkpoint
from mmsagan.checkpoints.publish import publish
from mmsagan.errors import CheckpointError, ConfigError

SMALL = {'model.generator.base_channels': 32, 'model.discriminator.base_channels': 16}
CONFIGS = {
    'mmagic_32_wReLUinplace': 'configs/sagan/sagan_32_wReLUinplace_cifar10_b64x1.py',
    'mmagic_32_woReLUinplace': 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py',
    'studiogan_current_32': 'configs/sagan/sagan_32_cvt_studioGAN.py',
    'studiogan_legacy_32': 'configs/sagan/sagan_32_cvt_studioGAN.py',
}


def test_any_format_into_its_config(reference):
    """The file as the other project wrote it; the discriminator of StudioGAN is found beside the generator."""
    model = init_model(CONFIGS[reference.folder.name], reference.path, cfg_options=SMALL)
    assert not model.training and model.cfg.model.generator.base_channels == 32
    reference.check(model)


def test_any_format_without_a_config(reference):
    reference.check(init_model(None, reference.path))


def test_any_format_by_url(reference, tmp_path, monkeypatch):
    """The download lands in torch's cache; what is there is not fetched again."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub' / 'checkpoints' / 'example.org' / reference.folder.name
    shutil.copytree(reference.folder, cache)
    reference.check(init_model(None, f'https://example.org/{reference.folder.name}/{reference.path.name}'))


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_converted_and_published_files(reference, tmp_path, ending):
    if reference.is_bgr:
        convert_checkpoint(reference.path, tmp_path / f'converted.{ending}')
        reference.check(init_model(None, tmp_path / f'converted.{ending}'))
    path, _ = publish(reference.path, tmp_path / f'published.{ending}')
    reference.check(init_model(None, path))
    reference.check(init_model(CONFIGS[reference.folder.name], path, cfg_options=SMALL))


def test_a_runs_checkpoint_with_optimizers(tiny_run, tmp_path):
    cfg = tiny_run(max_iters=2)
    runner = train_from_config(cfg)
    model = init_model(Config(dict(model=cfg.model)), tmp_path / 'run' / 'iter_2.pth')
    state = runner.model.state_dict()
    assert 'optimizer' in load_checkpoint_file(tmp_path / 'run' / 'iter_2.pth')
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_without_a_checkpoint_the_weights_are_initialized(gan_config):
    model = init_model(Config(dict(model=gan_config(ema_config=dict(momentum=0.9)))))
    weight = model.generator.noise2feat.weight_orig.detach()
    torch.testing.assert_close(weight.T @ weight, torch.eye(len(weight.T)))  # orthogonal, as the scheme "studio" says
    assert torch.equal(model.generator_ema.noise2feat.weight_orig, weight)


def test_the_callers_config_is_left_alone(gan_config):
    cfg = Config(dict(model=gan_config(num_classes=3)))
    assert init_model(cfg, cfg_options={'model.num_classes': 5}).num_classes == 5
    assert cfg.model.num_classes == 3


def test_the_zoo(reference, monkeypatch):
    """The published weights are stood in for by a file."""
    asked = []
    monkeypatch.setattr(inference, 'resolve_weights', lambda name: asked.append(name) or str(reference.path))
    reference.check(init_model(CONFIGS[reference.folder.name].split('/')[-1][:-3], 'zoo', cfg_options=SMALL))
    assert asked == [CONFIGS[reference.folder.name].split('/')[-1][:-3]]


@pytest.fixture
def messages(monkeypatch):
    messages = []
    monkeypatch.setattr(inference, 'print_log', lambda message, *args: messages.append(message))
    return messages


def test_differences_are_warned_of(fixture_of, messages):
    fixture = fixture_of('studiogan_current_32')
    init_model(CONFIGS['mmagic_32_woReLUinplace'], fixture.path, cfg_options=SMALL)
    assert ['model.discriminator.act_cfg.inplace=True' in message for message in messages] == [True]


def test_a_generator_alone_is_enough_to_sample(fixture_of, tmp_path, messages):
    fixture = fixture_of('studiogan_legacy_32')
    shutil.copy(fixture.path, tmp_path / 'alone.pth')
    model = init_model(None, tmp_path / 'alone.pth')
    torch.testing.assert_close(model.sample(fixture.noise, fixture.label), fixture.images, atol=1e-4, rtol=0)
    assert ['no discriminator' in message for message in messages] == [True]


MISTAKES = {
    'another architecture.*model.generator.base_channels=32': lambda files: (CONFIGS['studiogan_current_32'], files['G']),
    'other.pth.*another architecture': lambda files: (CONFIGS['studiogan_current_32'], files['other']),
    'does not exist': lambda files: (CONFIGS['studiogan_current_32'], 'gone.pth'),
    "is not StudioGAN's G": lambda files: (CONFIGS['studiogan_current_32'], files['D']),
    'give a config': lambda files: (None, None),
    'does not say all that its config does': lambda files: (None, files['other']),
    'neither a file nor the name': lambda files: ('sagan_32_wrong', None),
    'has no published weights': lambda files: ('sagan_32_mnist_b64x1', 'zoo'),
    'goes with the name': lambda files: (None, 'zoo'),
    'has no model': lambda files: (Config(dict(a=1)), None),
}


@pytest.mark.parametrize('message', list(MISTAKES))
def test_mistakes(fixture_of, tmp_path, message):
    fixture = fixture_of('studiogan_current_32')
    files = dict(G=fixture.path, D=fixture.discriminator, other=tmp_path / 'other.pth')
    torch.save(dict(state_dict={'fc.weight': torch.ones(1)}), files['other'])
    with pytest.raises((ConfigError, CheckpointError), match=message):
        init_model(*MISTAKES[message](files))


@pytest.mark.parametrize('device', ['cuda:99', 'toaster'])
def test_a_device_that_is_not_there(gan_config, device):
    with pytest.raises(ConfigError, match=f'device {device} cannot be used'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        init_model(Config(dict(model=gan_config())), device=device)


def test_a_checkpoint_cannot_name_code(fixture_of, tmp_path):
    """Of meta only numbers and flags are taken: MMEngine's registries would import any name that is given as a type."""
    content = load_checkpoint_file(publish(fixture_of('studiogan_current_32').path, tmp_path / 'a.pth')[0])
    content['meta']['cfg'] = 'raise SystemExit'
    content['meta']['cfg_options']['model.generator.act_cfg'] = dict(type='os.system')
    torch.save(content, tmp_path / 'changed.pth')
    fixture_of('studiogan_current_32').check(init_model(None, tmp_path / 'changed.pth'))
    content['meta']['behaviour']['init'] = 'os.system'
    torch.save(content, tmp_path / 'changed.pth')
    with pytest.raises(ConfigError, match='does not say all'):
        init_model(None, tmp_path / 'changed.pth')
