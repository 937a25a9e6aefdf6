"""Broken and hostile checkpoints: each is refused with its name, or loads as it was."""

import io
import json
import pickle
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from breaking import ATTACKS, CANARY, Call, cuts, flips, limits
from mmengine.logging import HistoryBuffer

from mmsagan.apis import init_model
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.io import check_integrity
from mmsagan.errors import CheckpointError

STATE = dict(weight=torch.arange(12.0).reshape(3, 4), count=torch.tensor(7))


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class Pickler(pickle.Pickler):
    """Writes tensors' storages as torch does, with whatever is said of them."""

    def persistent_id(self, value):
        return value.args if isinstance(value, Storage) else None


class Storage:
    def __init__(self, *args):
        self.args = args


def archive(content, **records: bytes) -> bytes:
    """A file like torch.save's, by hand."""
    buffer, data = io.BytesIO(), io.BytesIO()
    Pickler(data, protocol=2).dump(content)
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, record in {'data.pkl': data.getvalue(), 'byteorder': b'little', **records}.items():
        writer.write_record(name.replace('__', '/'), record, len(record))
    writer.write_end_of_file()
    return buffer.getvalue()


def tensor(offset=0, size=(2, 2), stride=(2, 1), numel=4) -> Call:
    storage = Storage('storage', torch.FloatStorage, '0', 'cpu', numel)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


def safetensors_file(notes: dict = {}, **changes) -> bytes:  # noqa: B006
    weight = dict(dtype='F32', shape=[3, 4], data_offsets=[0, 48]) | changes
    text = json.dumps(dict(weight=weight, __metadata__=notes)).encode()
    return struct.pack('<Q', len(text)) + text + bytes(48)


WHOLE = saved(STATE)
LEGACY = saved(STATE, _use_new_zipfile_serialization=False)
SAFE = safetensors.torch.save(STATE, {'meta': '{}'})
DATA = bytes(range(16))

REFUSED = {
    'more numbers than the storage': archive(dict(a=tensor(0, (100, 100), (100, 1))), data__0=DATA),
    'a storage larger than its record': archive(dict(a=tensor(numel=10**10)), data__0=DATA),
    'negative strides': archive(dict(a=tensor(3, (2, 2), (-2, -1))), data__0=DATA),
    'sizes that overflow': archive(dict(a=tensor(0, (2**62, 4), (4, 1))), data__0=DATA),
    'a gigantic bytearray': archive(dict(a=Call(bytearray, 10**13))),
    'a method of a log buffer that is hidden': saved(Call(getattr, HistoryBuffer, '__init__')),
    'a torchscript': archive(dict(a=1), **{'constants.pkl': b'\x80\x02).'}),
    'a header longer than the file': struct.pack('<Q', 2**40) + b'{' + bytes(100),
    'offsets beyond the end': safetensors_file(data_offsets=[0, 480]),
    'notes without end': safetensors_file(dict(meta='[' * 50_000)),
    **{f'zip, {name}': data for name, data in cuts(WHOLE, 25).items()},
    **{f'pickle, {name}': data for name, data in cuts(LEGACY, 20).items()},
    **{f'safetensors, {name}': data for name, data in cuts(SAFE, 12).items()},
    'a memo of 2 ** 31': b'\x80\x02Nr' + struct.pack('<I', 2**31 - 1) + b'.',
    'lists in lists': b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.',
}


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'broken.pth'


def refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with limits(), pytest.raises(CheckpointError, match=r'broken\.pth') as info:
        load_checkpoint_file(path)
    assert 'weights_only' not in str(info.value)


@pytest.mark.parametrize('name', REFUSED)
def test_broken_files_are_refused(path, name):
    refuse(path, REFUSED[name])


@pytest.mark.parametrize('name', ['os.system', 'builtins.eval', 'pickle.loads', 'an array of objects'])
def test_an_unsafe_reader_executes_the_attacks(path, name):
    pickle.loads(pickle.dumps(ATTACKS[name]))
    assert Path(CANARY).exists()


@pytest.mark.parametrize('name', ATTACKS)
def test_code_is_refused(path, name):
    attack = ATTACKS[name]
    for content in (attack, dict(state_dict=dict(weight=attack)), dict(state_dict=[({'a': (1, [attack])},)])):
        refuse(path, saved(content))
        refuse(path, pickle.dumps(content, protocol=2))


def load(path: Path, data: bytes) -> dict | None:
    """Returns the content of a file that may be refused, but only with its name."""
    path.write_bytes(data)
    with limits():
        try:
            check_integrity(path)
            return load_checkpoint_file(path)
        except CheckpointError as error:
            assert 'broken.pth' in str(error)
            return None


def test_flipped_bits_are_found_or_harmless(path):
    for name, data in flips(WHOLE, 60, seed=1).items():
        loaded = load(path, data)
        is_same = loaded is None or loaded.keys() == STATE.keys() and all(torch.equal(loaded[key], STATE[key]) for key in STATE)
        assert is_same, name


@pytest.mark.parametrize('whole', [LEGACY, SAFE], ids=['pickle', 'safetensors'])
def test_flipped_bits_of_files_without_checksums_are_no_traceback(path, whole):
    for data in flips(whole, 100).values():
        load(path, data)


def change(content: dict, key: str, value) -> dict:
    return dict(content, state_dict={**content['state_dict'], key: value})


KEY = 'generator.noise2feat.weight_orig'
CHANGES = {
    'a list': lambda content: [content],
    'a number for a tensor': lambda content: change(content, KEY, 5),
    'a dimension of 0': lambda content: change(content, KEY, torch.zeros(0, 128)),
    'a sparse tensor': lambda content: change(content, KEY, torch.eye(16).to_sparse()),
    'a gigantic view of one number': lambda content: change(content, KEY, torch.zeros(1).expand(10**6, 10**6)),
}


@pytest.mark.parametrize('name', CHANGES)
def test_checkpoints_of_no_model(path, name, fixture_of):
    content = load_checkpoint_file(fixture_of('mmagic_32_wReLUinplace').path)
    assert KEY in content['state_dict']
    torch.save(CHANGES[name](content), path)
    with limits(), pytest.raises(CheckpointError, match=r'broken\.pth'):
        init_model(None, path)
