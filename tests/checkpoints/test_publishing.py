import hashlib

import pytest
import torch

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.publish import publish
from mmsagan.errors import CheckpointError
from mmsagan.registry import MODELS

CFG = """default_scope = 'mmsagan'
data_root = '/home/somebody/secret'
model = dict(
    type='SAGAN',
    num_classes=3)
work_dir = '/home/somebody/runs'
"""


@pytest.fixture
def checkpoint(gan_config, tmp_path):
    model = MODELS.build(gan_config(ema_config=dict(momentum=0.9)))
    model.init_weights()
    model.generator_ema.to_rgb.conv.bias.data.fill_(0.5)
    content = dict(
        state_dict=model.state_dict(),
        meta=dict(iter=7, cfg=CFG, time='today', experiment_name='somebody'),
        optimizer=dict(generator={}),
        message_hub={},
    )
    torch.save(content, tmp_path / 'iter_7.pth')
    return tmp_path / 'iter_7.pth'


@pytest.mark.parametrize(
    'name, file_format, ending',
    [('a.pth', None, 'pth'), ('a.safetensors', None, 'safetensors'), ('a', 'safetensors', 'safetensors')],
)
def test_weights_are_kept_and_the_rest_is_not(checkpoint, tmp_path, name, file_format, ending):
    path, dropped = publish(checkpoint, tmp_path / 'out' / name, file_format=file_format)
    assert path.name == f'a-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.{ending}'
    assert list(path.parent.iterdir()) == [path]
    assert set(dropped) == {'optimizer', 'message_hub'}
    content, source = load_checkpoint_file(path), load_checkpoint_file(checkpoint)
    assert set(content) == {'meta', 'state_dict'} and set(content['state_dict']) == set(source['state_dict'])
    assert all(torch.equal(content['state_dict'][key], tensor) for key, tensor in source['state_dict'].items())
    assert content['meta']['iter'] == 7
    assert content['meta']['cfg'] == "default_scope = 'mmsagan'\nmodel = {'type': 'SAGAN', 'num_classes': 3}\n"
    assert 'somebody' not in str(content['meta'])


def test_the_average_alone(checkpoint, tmp_path):
    path, dropped = publish(checkpoint, tmp_path / 'a.pth', weights='ema', with_discriminator=False)
    state, source = load_checkpoint_file(path)['state_dict'], load_checkpoint_file(checkpoint)['state_dict']
    assert {key.partition('.')[0] for key in state} == {'generator', 'iteration'}
    assert all(torch.equal(t, source[key.replace('generator.', 'generator_ema.')]) for key, t in state.items() if '.' in key)
    assert {'generator', 'discriminator'} <= set(dropped)


def test_no_average_to_be_kept(fixture_of, tmp_path):
    with pytest.raises(CheckpointError, match='no moving average'):
        publish(fixture_of('studiogan_current_32').path, tmp_path / 'a.pth', weights='ema')
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_published_under_our_names(fixture_of, tmp_path):
    path, _ = publish(fixture_of('studiogan_current_32').path, tmp_path / 'a.pth')
    content = load_checkpoint_file(path)
    assert 'generator.noise2feat.bias' in content['state_dict'] and 'discriminator.decision.bias' in content['state_dict']
    assert content['meta']['behaviour']['inplace'] is True


@pytest.mark.parametrize('cfg', [None, 3, 'not = python =', 'a = 1'])
def test_a_config_that_says_nothing_of_the_model_is_left_out(checkpoint, tmp_path, cfg):
    content = load_checkpoint_file(checkpoint)
    content['meta']['cfg'] = cfg
    torch.save(content, checkpoint)
    assert 'cfg' not in load_checkpoint_file(publish(checkpoint, tmp_path / 'a.pth')[0])['meta']
