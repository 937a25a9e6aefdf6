"""Reading checkpoint files: what is data is read, what is damaged or code is refused, and the newest one is found."""

import functools
import hashlib
import io
import os
import struct
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint

from mmsagan.apis import train_from_config
from mmsagan.checkpoints import check_integrity, find_latest_checkpoint, load_checkpoint_file
from mmsagan.checkpoints.convert import load_checkpoint
from mmsagan.checkpoints.io import list_checkpoints
from mmsagan.errors import CheckpointError, DownloadError
from mmsagan.registry import MODELS

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


def test_mmengines_readers_refuse_code_and_other_sources(tmp_path, monkeypatch):
    marker = tmp_path / 'executed'
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub' / 'checkpoints' / 'example.org'
    cache.mkdir(parents=True)
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), cache / 'good.pth')
    torch.save(dict(state_dict=Malicious(f'touch {marker}')), cache / 'bad.pth')
    assert 'state_dict' in _load_checkpoint('https://example.org/good.pth')
    for url in ('https://example.org/bad.pth', str(cache / 'bad.pth'), 'http://example.org/a.pth', 's3://bucket/a.pth'):
        with pytest.raises((CheckpointError, DownloadError), match='bad.pth|https'):
            _load_checkpoint(url, map_location='cpu')
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
        with pytest.raises(DownloadError, match=wrong):
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


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the iterations 5, 10 and 20, saved in this order, and the pointer."""
    for number, step in enumerate((5, 10, 20)):
        path = tmp_path / f'iter_{step}.pth'
        torch.save(dict(step=step, weights=torch.randn(100)), path)
        os.utime(path, ns=(number, number))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_20.pth'))
    os.utime(tmp_path / 'last_checkpoint', ns=(3, 3))
    for name in ('iter_x.pth', 'best_fid_iter_30.pth', 'iter_40.pth.tmp', '.iter_50.pth.abcdefgh.unfinished', 'epoch_60.pth'):
        (tmp_path / name).write_bytes(b'')
    return tmp_path


def test_list_checkpoints(folder):
    assert list_checkpoints(folder) == [(step, folder / f'iter_{step}.pth') for step in (5, 10, 20)]
    assert find_latest_checkpoint(folder) == (folder / 'iter_20.pth', [])
    assert [step for step, _ in list_checkpoints(folder, 'epoch_{}.pth')] == [60]


def test_damaged_ones_are_passed_over(folder):
    content = bytearray((folder / 'iter_20.pth').read_bytes())
    content[len(content) // 2] ^= 16
    (folder / 'iter_20.pth').write_bytes(content)
    content = (folder / 'iter_10.pth').read_bytes()
    (folder / 'iter_10.pth').write_bytes(content[: len(content) // 2])
    path, errors = find_latest_checkpoint(folder)
    named = [name in str(error) for name, error in zip(('iter_20', 'iter_10'), errors)]
    assert path == folder / 'iter_5.pth' and named == [1, 1]
    (folder / 'iter_5.pth').write_bytes(b'')
    with pytest.raises(CheckpointError, match=r'iter_20.*iter_10.*iter_5\.pth'):
        find_latest_checkpoint(folder)


def test_nothing_to_resume_from(tmp_path):
    assert find_latest_checkpoint(tmp_path) == (None, [])
    assert find_latest_checkpoint(tmp_path / 'not there') == (None, [])


def test_killed_between_checkpoint_and_pointer(folder):
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_10.pth'))
    os.utime(folder / 'last_checkpoint', ns=(1, 1))
    assert find_latest_checkpoint(folder)[0] == folder / 'iter_20.pth'


def test_a_longer_run_before_in_the_same_folder(folder):
    """A second run has got to iteration 10, and the first one's iteration 20 is none of its."""
    os.utime(folder / 'iter_10.pth', ns=(4, 4))
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_10.pth'))
    os.utime(folder / 'last_checkpoint', ns=(5, 5))
    assert find_latest_checkpoint(folder)[0] == folder / 'iter_10.pth'


@pytest.mark.parametrize('pointer', [None, b'', b'\xff\x00garbage', b'/somewhere/else/iter_7.pth'])
def test_without_a_useful_pointer(folder, pointer):
    (folder / 'last_checkpoint').unlink()
    if pointer is not None:
        (folder / 'last_checkpoint').write_bytes(pointer)
    assert find_latest_checkpoint(folder)[0] == folder / 'iter_20.pth'


def test_a_run_that_was_moved(folder, tmp_path_factory):
    """The pointer holds a path, of which only the name still says something."""
    moved = tmp_path_factory.mktemp('elsewhere') / 'run'
    (folder / 'last_checkpoint').write_text('/old/place/iter_20.pth')
    os.rename(folder, moved)
    assert find_latest_checkpoint(moved)[0] == moved / 'iter_20.pth'


@pytest.mark.parametrize(
    'prefixes', [('module.', ''), ('_orig_mod.', ''), ('', 'module.'), ('module.', '_orig_mod.'), ('', '_orig_mod.module.')]
)
def test_prefixes_of_wrappers(gan_config, tmp_path, prefixes):
    state = MODELS.build(gan_config(ema_config=dict(momentum=0.9))).state_dict()
    wrapped = {}
    for key, tensor in state.items():
        network, dot, rest = key.partition('.')
        wrapped[prefixes[0] + network + dot + prefixes[1] * bool(dot) + rest] = tensor
    for number, content in enumerate((dict(state_dict=wrapped, meta={}), wrapped)):
        torch.save(content, tmp_path / f'{number}.pth')
        loaded = load_checkpoint(str(tmp_path / f'{number}.pth'))
        assert list(loaded.get('state_dict', loaded)) == list(state)


def test_a_part_that_is_called_module_is_no_wrapper(tmp_path):
    torch.save(dict(state_dict={'generator.module.weight': torch.ones(1)}), tmp_path / 'mine.pth')
    assert list(load_checkpoint(str(tmp_path / 'mine.pth'))['state_dict']) == ['generator.module.weight']
