"""Broken and hostile checkpoints: each is refused with its name, or is what it was."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from breaking import ATTACKS, CANARY, Call, cuts, flips, limits, nested
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


def tensor(*arguments, numel=4, kind='storage', dtype=torch.FloatStorage, key='0', device='cpu') -> Call:
    offset, size, stride, *_ = (*arguments, *(0, (2, 2), (2, 1))[len(arguments) :])
    storage = Storage(kind, dtype, key, device, numel)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


def zipped(whole: bytes, compression=zipfile.ZIP_STORED, rename=lambda name: name, extra=()) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, 'w', compression) as new:
        for record in old.infolist():
            new.writestr(rename(record.filename), old.read(record))
        for name, data in extra:
            new.writestr(name, data)
    return buffer.getvalue()


def safetensors_file(header, data: bytes = bytes(48)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + data


def weight(**changes) -> dict:
    return dict(weight=dict(dtype='F32', shape=[3, 4], data_offsets=[0, 48]) | changes)


WHOLE = saved(STATE)
LEGACY = saved(STATE, _use_new_zipfile_serialization=False)
SAFE = safetensors.torch.save(STATE, {'meta': '{}'})
DATA = bytes(range(16))

CRAFTED = {
    'more numbers than the storage': archive(dict(a=tensor(0, (100, 100), (100, 1))), data__0=DATA),
    'negative strides': archive(dict(a=tensor(3, (2, 2), (-2, -1))), data__0=DATA),
    'sizes that overflow': archive(dict(a=tensor(0, (2**62, 4), (4, 1))), data__0=DATA),
    'a record that is not there': archive(dict(a=tensor(key='9')), data__0=DATA),
    'a record of another folder': archive(dict(a=tensor(key='../../../etc/passwd')), data__0=DATA),
    'a gigantic bytearray': archive(dict(a=Call(bytearray, 10**13))),
    'a method of a log buffer that is hidden': saved(Call(getattr, HistoryBuffer, '__init__')),
    'a method of something else': saved(Call(getattr, dict, 'fromkeys')),
    'a torchscript': archive(dict(a=1), **{'constants.pkl': b'\x80\x02).'}),
}
ZIPS = {
    'compressed': zipped(WHOLE, zipfile.ZIP_DEFLATED),
    'a bomb': zipped(WHOLE, zipfile.ZIP_DEFLATED, extra=[('archive/data/9', bytes(10**7))]),
    'names that lead out': zipped(WHOLE, rename=lambda name: name.replace('archive/', '../../')),
    'an empty archive': b'PK\x05\x06' + bytes(18),
    'something before': b'PK\x03\x04' + WHOLE,
}
SAFES = {
    'a header without end': safetensors_file(b'{"a":' * 20_000),
    'too large a shape': safetensors_file(weight(shape=[300, 400])),
    'offsets beyond the end': safetensors_file(weight(data_offsets=[0, 480])),
    'an unknown type': safetensors_file(weight(dtype='F33')),
    'notes that are no JSON': safetensors_file(dict(weight(), __metadata__=dict(meta='{'))),
    'notes without end': safetensors_file(dict(weight(), __metadata__=dict(meta='[' * 50_000))),
}
OTHERS = {
    'empty': b'',
    'a pickle without end': pickle.dumps(STATE['weight'].tolist())[:-1],
    'a memo of 2 ** 31': b'\x80\x02Nr' + struct.pack('<I', 2**31 - 1) + b'.',
    'lists in lists': b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.',
    'an old tar file': b'\x80' + bytes(600),
}
REFUSED = {
    **{f'zip, {name}': data for name, data in cuts(WHOLE, 25).items()},
    **{f'pickle, {name}': data for name, data in cuts(LEGACY, 20).items()},
    **{f'safetensors, {name}': data for name, data in cuts(SAFE, 12).items()},
    **{f'crafted, {name}': data for name, data in CRAFTED.items()},
    **{f'safetensors, {name}': data for name, data in SAFES.items()},
    **OTHERS,
}
ATTACKED = {
    f'{name}, {place}, {format}': save(content)
    for name, attack in ATTACKS.items()
    for place, content in nested(attack).items()
    for format, save in {'zip': saved, 'pickle': lambda content: pickle.dumps(content, protocol=2)}.items()
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


@pytest.mark.parametrize('name', ['os.system', 'builtins.eval', 'builtins.compile', 'pickle.loads', 'an array of objects'])
def test_the_attacks_are_real(path, name):
    """To a reader that calls what it is told, in the tests' own words."""
    pickle.loads(pickle.dumps(ATTACKS[name]))
    assert Path(CANARY).exists()


@pytest.mark.parametrize('name', ATTACKED)
def test_code_is_refused(path, name):
    refuse(path, ATTACKED[name])


def load(path: Path, data: bytes) -> dict | None:
    """The content, or None for an error that names the file."""
    path.write_bytes(data)
    with limits():
        try:
            check_integrity(path)
            return load_checkpoint_file(path)
        except CheckpointError as error:
            assert 'broken.pth' in str(error)
            return None


@pytest.mark.parametrize('name', ZIPS)
def test_other_archives_are_refused_or_the_same(path, name):
    """Names are no paths here: a reader that takes the records by their last parts is right to."""
    loaded = load(path, ZIPS[name])
    assert loaded is None or all(torch.equal(loaded[key], STATE[key]) for key in STATE)
    assert [file.name for file in path.parent.iterdir()] == ['broken.pth']


@pytest.mark.parametrize('name', list(flips(WHOLE, 60, seed=1)))
def test_flipped_bits_are_found_or_harmless(path, name):
    loaded = load(path, flips(WHOLE, 60, seed=1)[name])
    assert loaded is None or (loaded.keys() == STATE.keys() and all(torch.equal(loaded[key], STATE[key]) for key in STATE))


@pytest.mark.parametrize('format', ['pickle', 'safetensors'])
def test_flipped_bits_of_files_without_sums_are_no_traceback(path, format):
    for data in flips(dict(pickle=LEGACY, safetensors=SAFE)[format], 150).values():
        load(path, data)


# ------------------------------------------------------------------------------------- files that load, and are no model's


def change(content: dict, key: str, value) -> dict:
    return dict(content, state_dict={**content['state_dict'], key: value})


KEY = 'generator.noise2feat.weight_orig'
CHANGES = {
    'a list': lambda content: [content],
    'no tensors': lambda content: dict(state_dict={}),
    'a number for a tensor': lambda content: change(content, KEY, 5),
    'whole numbers': lambda content: change(content, KEY, torch.zeros(16, 16, dtype=torch.int64)),
    'a sparse tensor': lambda content: change(content, KEY, torch.eye(16).to_sparse()),
    'a gigantic view of one number': lambda content: change(content, KEY, torch.zeros(1).expand(10**6, 10**6)),
    'a missing tensor': lambda content: dict(
        content, state_dict={key: value for key, value in content['state_dict'].items() if key != KEY}
    ),
    'an unknown tensor': lambda content: change(content, 'generator.more', torch.zeros(2)),
}


@pytest.mark.parametrize('name', CHANGES)
def test_checkpoints_of_no_model(path, name, fixture_of):
    content = load_checkpoint_file(fixture_of('mmagic_32_wReLUinplace').path)
    assert KEY in content['state_dict']
    torch.save(CHANGES[name](content), path)
    with limits(), pytest.raises(CheckpointError, match=r'broken\.pth'):
        init_model(None, path)
