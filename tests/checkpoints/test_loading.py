import functools
import hashlib
import os
import pickle
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint

from mmsagan.apis import train_from_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.convert import get_checksum
from mmsagan.errors import CheckpointError


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class GetAttribute:
    """Tries to reach a module's globals through the stand-in for getattr."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_a_runners_checkpoint_loads(tmp_path):
    buffer = HistoryBuffer()
    buffer.update(1.5)
    content = dict(
        state_dict=dict(weight=torch.ones(2)),
        meta=dict(iter=3, classes=('a',)),
        scalar=np.float64(2),
        array=np.arange(3),
        message_hub=dict(log_scalars=dict(loss=buffer)),
    )
    torch.save(content, tmp_path / 'file.pth')
    loaded = load_checkpoint_file(tmp_path / 'file.pth')
    assert torch.equal(loaded['state_dict']['weight'], torch.ones(2)) and loaded['meta'] == content['meta']
    restored = loaded['message_hub']['log_scalars']['loss']
    assert restored.current() == 1.5 and restored.statistics('mean') == 1.5
    assert loaded['scalar'] == 2 and loaded['array'].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    'load', [load_checkpoint_file, lambda path: _load_checkpoint(str(path), map_location='cpu')], ids=['ours', "MMEngine's"]
)
@pytest.mark.parametrize('content', ['system', 'getattr'])
def test_code_is_refused_and_not_run(tmp_path, load, content):
    marker = tmp_path / 'executed'
    torch.save(dict(state_dict=Malicious(f'touch {marker}') if content == 'system' else GetAttribute()), tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match='file.pth is refused') as info:
        load(tmp_path / 'file.pth')
    assert not marker.exists()
    assert 'weights_only' not in str(info.value), 'the message must not advise to run the code'


def test_old_pickles_are_refused_too(tmp_path):
    marker = tmp_path / 'executed'
    (tmp_path / 'file.pth').write_bytes(pickle.dumps(Malicious(f'touch {marker}')))
    with pytest.raises(CheckpointError):
        load_checkpoint_file(tmp_path / 'file.pth')
    assert not marker.exists()


def broken_files(folder):
    torch.save(dict(weight=torch.randn(1000)), folder / 'whole.pth')
    whole = (folder / 'whole.pth').read_bytes()
    with zipfile.ZipFile(folder / 'other.zip', 'w') as archive:
        archive.writestr('readme', 'no checkpoint')
    return {
        'empty': b'',
        'text': b'this is no checkpoint',
        'half': whole[: len(whole) // 2],
        'zip': (folder / 'other.zip').read_bytes(),
        'zeros': bytes(1000),
    }


@pytest.mark.parametrize('kind', ['empty', 'text', 'half', 'zip', 'zeros'])
def test_broken_files_are_named(tmp_path, kind):
    path = tmp_path / f'{kind}.pth'
    path.write_bytes(broken_files(tmp_path)[kind])
    with pytest.raises(CheckpointError, match=f'{kind}.pth'):
        load_checkpoint_file(path)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match='does not exist'):
        load_checkpoint_file(tmp_path / 'gone.pth')


@pytest.mark.parametrize('url', ['http://example.org/a.pth', 'torchvision://resnet50', 's3://bucket/a.pth', 'pavi://a.pth'])
def test_other_sources_are_refused(url):
    with pytest.raises(CheckpointError, match='https'):
        CheckpointLoader.load_checkpoint(url)


def test_urls_are_read_safely(tmp_path, monkeypatch):
    """The download lands in torch's cache; what is in the cache is read without running code."""
    marker = tmp_path / 'executed'
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub' / 'checkpoints' / 'example.org'
    cache.mkdir(parents=True)
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), cache / 'good.pth')
    torch.save(Malicious(f'touch {marker}'), cache / 'bad.pth')
    assert 'state_dict' in CheckpointLoader.load_checkpoint('https://example.org/good.pth')
    with pytest.raises(CheckpointError, match='bad.pth is refused'):
        CheckpointLoader.load_checkpoint('https://example.org/bad.pth')
    assert not marker.exists()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Serves a checkpoint by any name: published(name) gives the URL, published.sum its sha256. torch's cache is empty."""
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), tmp_path / 'checkpoint')
    content = (tmp_path / 'checkpoint').read_bytes()
    (tmp_path / 'served').mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path / 'served')
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()

    def publish(name):
        (tmp_path / 'served' / name).write_bytes(content)
        return f'http://127.0.0.1:{server.server_port}/{name}'

    publish.sum = hashlib.sha256(content).hexdigest()
    yield publish
    server.shutdown()
    server.server_close()


def test_the_sum_in_a_published_files_name_is_checked(published, tmp_path):
    url = published(f'sagan_20210730-{published.sum[:8]}.pth')
    assert torch.equal(CheckpointLoader.load_checkpoint(url)['state_dict']['weight'], torch.ones(1))
    wrong = f'{int(published.sum[:8], 16) ^ 1:08x}'
    with pytest.raises(CheckpointError, match=f'{wrong} expected, {published.sum} found.*{wrong} in its name') as info:
        CheckpointLoader.load_checkpoint(published(f'sagan_20210730-{wrong}.pth'))
    assert 'a file given by path is not checked' in str(info.value)
    assert not list((tmp_path / 'home').rglob(f'*{wrong}.pth'))


def test_a_name_without_a_sum_is_loaded_unchecked(published):
    assert 'state_dict' in CheckpointLoader.load_checkpoint(published('sagan-20210730.pth'))


@pytest.mark.parametrize(
    'url, found',
    [
        ('https://example.org/sagan_20210730_125449-d50568a4.pth', 'd50568a4'),
        ('https://example.org/a-12345678.pth?download=1#top', '12345678'),
        ('https://example.org/a-' + '0f' * 32 + '.safetensors', '0f' * 32),
        ('https://example.org/a-d50568a4.pth/b.pth', None),
        ('https://example.org/a-20231101.pth', None),
        ('https://example.org/a-20239901.pth', '20239901'),
        ('https://example.org/a-D50568A4.pth', None),
        ('https://example.org/a-d50568a.pth', None),
        ('https://example.org/model=G-best-weights-step=99000.pth', None),
    ],
)
def test_which_names_hold_a_sum(url, found):
    assert get_checksum(url) == found


def test_without_a_network_the_message_says_where_the_file_goes(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    # A port of this machine on which nothing listens.
    with pytest.raises(CheckpointError, match=f'{tmp_path}.*file.pth'):
        CheckpointLoader.load_checkpoint('https://127.0.0.1:9/file.pth')


def test_a_config_in_a_checkpoint_is_not_executed_by_resuming(tiny_run, tmp_path):
    """MMEngine's runner reads meta['config'] as a Python file."""
    marker = tmp_path / 'executed'
    train_from_config(tiny_run(max_iters=1))
    path = tmp_path / 'run' / 'iter_1.pth'
    checkpoint = load_checkpoint_file(path)
    checkpoint['meta']['config'] = f'import os\nos.system("touch {marker}")'
    torch.save(checkpoint, path)
    cfg = tiny_run(max_iters=2)
    cfg.resume = True
    assert train_from_config(cfg).iter == 2
    assert not marker.exists()


@pytest.mark.parametrize(
    'url', ['https://example.org', 'https://example.org/../../../file.pth', 'https://../file.pth', 'https:///f.pth']
)
def test_urls_that_name_no_file_of_the_cache(tmp_path, monkeypatch, url):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    with pytest.raises(CheckpointError, match='not the URL of a file'):
        CheckpointLoader.load_checkpoint(url)
    assert not (tmp_path / 'home').exists()
