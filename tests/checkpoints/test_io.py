"""Reading checkpoint files: what is data is read, what is damaged or code is refused."""

import functools
import hashlib
import io
import os
import pickle
import struct
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint

from mmsagan.apis import train_from_config
from mmsagan.checkpoints import check_integrity, load_checkpoint_file
from mmsagan.errors import CheckpointError

CONTENT = dict(state_dict=dict(a=torch.arange(20.0), b=torch.tensor(3)), meta=dict(iter=5))


@pytest.fixture
def whole(tmp_path) -> bytes:
    torch.save(CONTENT, tmp_path / 'whole.pth')
    return (tmp_path / 'whole.pth').read_bytes()


def is_the_original(loaded) -> bool:
    same = all(torch.equal(tensor, CONTENT['state_dict'][key]) for key, tensor in loaded['state_dict'].items())
    return same and list(loaded['state_dict']) == ['a', 'b'] and loaded['meta'] == CONTENT['meta'] and len(loaded) == 2


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize('old_pickle', [True, False])
def test_mmengines_reader_refuses_code(tmp_path, old_pickle):
    path, marker = tmp_path / 'file.pth', tmp_path / 'executed'
    attack = Malicious(f'touch {marker}')
    if old_pickle:
        path.write_bytes(pickle.dumps(attack, 2))
    else:
        torch.save(dict(state_dict=attack), path)
    with pytest.raises(CheckpointError, match='file.pth') as info:
        _load_checkpoint(str(path), map_location='cpu')
    assert not marker.exists()
    assert 'weights_only' not in str(info.value), 'the message must not advise to run the code'


def test_a_config_in_a_checkpoint_is_not_executed_by_resuming(tiny_run, tmp_path):
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


@pytest.mark.parametrize('url', ['http://example.org/a.pth', 's3://bucket/a.pth'])
def test_other_sources_are_refused(url):
    with pytest.raises(CheckpointError, match='https'):
        CheckpointLoader.load_checkpoint(url)


def test_urls_are_read_safely(tmp_path, monkeypatch):
    marker = tmp_path / 'executed'
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub' / 'checkpoints' / 'example.org'
    cache.mkdir(parents=True)
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), cache / 'good.pth')
    torch.save(Malicious(f'touch {marker}'), cache / 'bad.pth')
    assert 'state_dict' in CheckpointLoader.load_checkpoint('https://example.org/good.pth')
    with pytest.raises(CheckpointError, match='bad.pth'):
        CheckpointLoader.load_checkpoint('https://example.org/bad.pth')
    assert not marker.exists()


def test_the_checksum_in_a_published_files_name_is_compared(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    served = tmp_path / 'served'
    served.mkdir()
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), served / 'sagan-20210730.pth')
    content = (served / 'sagan-20210730.pth').read_bytes()
    right = hashlib.sha256(content).hexdigest()[:8]
    wrong = f'{int(right, 16) ^ 1:08x}'
    for checksum in (right, wrong):
        (served / f'sagan-{checksum}.pth').write_bytes(content)
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(SimpleHTTPRequestHandler, directory=served))
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        for name in (right, '20210730'):
            url = f'http://127.0.0.1:{server.server_port}/sagan-{name}.pth'
            assert torch.equal(CheckpointLoader.load_checkpoint(url)['state_dict']['weight'], torch.ones(1))
        with pytest.raises(CheckpointError, match=wrong):
            CheckpointLoader.load_checkpoint(f'http://127.0.0.1:{server.server_port}/sagan-{wrong}.pth')
    finally:
        server.shutdown()
        server.server_close()
    assert not list((tmp_path / 'home').rglob(f'*{wrong}.pth'))


def test_damaged_tensors_are_named(tmp_path, whole):
    damaged = bytearray(whole)
    damaged[whole.index(CONTENT['state_dict']['a'].numpy().tobytes()) + 5] ^= 1
    path = tmp_path / 'damaged.pth'
    path.write_bytes(damaged)
    assert not is_the_original(torch.load(path, weights_only=True))
    for read in (check_integrity, load_checkpoint_file):
        with pytest.raises(CheckpointError, match='damaged.pth.*/data/0'):
            read(path)


def rezipped(whole: bytes, **changes) -> bytes:
    """The archive written anew by the standard library, with other properties of its tensors' records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, 'w') as new:
        for record in old.infolist():
            info = zipfile.ZipInfo(record.filename)
            for key, value in changes.items() if '/data/' in record.filename else ():
                setattr(info, key, value)
            new.writestr(info, old.read(record))
    return buffer.getvalue()


def test_archives_by_other_writers(tmp_path, whole):
    path = tmp_path / 'file.pth'
    path.write_bytes(rezipped(whole))
    assert is_the_original(load_checkpoint_file(path))
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(CONTENT, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert is_the_original(load_checkpoint_file(path)) and check_integrity(str(path)) == 'zip'
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    assert is_the_original(load_checkpoint_file(path)) and check_integrity(path) == 'pickle'
    compressed, directory = rezipped(whole, compress_type=zipfile.ZIP_DEFLATED), rezipped(whole, external_attr=0x10)
    for data in (compressed, directory, bytes(100) + whole, whole[:4] + bytes(100) + whole):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match='file.pth'):
            check_integrity(path)


def test_records_that_share_their_bytes(tmp_path):
    """A small file could claim any amount of memory by listing its records many times."""
    torch.save(dict(weight=torch.ones(5000)), tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        start = archive.start_dir
    directory = whole[start : whole.index(b'PK\x06\x06')]
    end = struct.pack('<4s4H2LH', b'PK\x05\x06', 0, 0, 0, 0, 50 * len(directory), start, 0)
    path = tmp_path / 'bomb.pth'
    path.write_bytes(whole[:start] + 50 * directory + end)
    with pytest.raises(CheckpointError, match='bomb.pth.*more bytes than the file'):
        check_integrity(path)
