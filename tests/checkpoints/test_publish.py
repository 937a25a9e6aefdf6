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
    init_from=dict(checkpoint='/home/somebody/other.pth'),
    num_classes=3)
work_dir = '/home/somebody/runs'
"""


@pytest.fixture
def checkpoint(gan_config, tmp_path):
    model = MODELS.build(gan_config(ema_config=dict(momentum=0.9)))
    model.generator_ema.to_rgb.conv.bias.data.fill_(0.5)
    meta = dict(iter=7, cfg=CFG, time='today', experiment_name='somebody')
    state = model.state_dict()
    state['generator_ema.noise2feat.bias'] = state['generator.noise2feat.bias']  # safetensors refuses shared memory
    content = dict(state_dict=state, meta=meta, optimizer=dict(generator={}), message_hub={})
    torch.save(content, tmp_path / 'iter_7.pth')
    return tmp_path / 'iter_7.pth'


@pytest.mark.parametrize('name, suffix', [('a.pth', 'pth'), ('a.safetensors', 'safetensors'), ('a', 'pth')])
def test_weights_are_kept_and_the_rest_is_not(checkpoint, tmp_path, name, suffix):
    path, dropped = publish(checkpoint, tmp_path / 'out' / name)
    assert path.name == f'a-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.{suffix}'
    assert list(path.parent.iterdir()) == [path]
    assert set(dropped) == {'optimizer', 'message_hub'}
    content, source = load_checkpoint_file(path), load_checkpoint_file(checkpoint)
    assert set(content) == {'meta', 'state_dict'} and set(content['state_dict']) == set(source['state_dict'])
    assert all(torch.equal(content['state_dict'][key], tensor) for key, tensor in source['state_dict'].items())
    assert content['meta']['iter'] == 7 and "'num_classes': 3" in content['meta']['cfg']
    assert 'somebody' not in str(content['meta'])


def test_the_average_alone(checkpoint, fixture_of, tmp_path):
    path, dropped = publish(checkpoint, tmp_path / 'a.pth', weights='ema', with_discriminator=False)
    state, source = load_checkpoint_file(path)['state_dict'], load_checkpoint_file(checkpoint)['state_dict']
    assert {key.partition('.')[0] for key in state} == {'generator', 'iteration'}
    assert all(torch.equal(t, source[key.replace('generator.', 'generator_ema.')]) for key, t in state.items() if '.' in key)
    assert {'generator', 'discriminator'} <= set(dropped)
    with pytest.raises(CheckpointError, match='moving average'):
        publish(fixture_of('studiogan_current_32').path, tmp_path / 'b.pth', weights='ema')
    assert not list(tmp_path.glob('b*'))
