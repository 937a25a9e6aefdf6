"""Broken and hostile files of statistics: each is refused with its name, or loads as it was."""

import functools
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from breaking import ATTACKS, Call, cuts, flips, limits

from mmsagan.errors import DataError
from mmsagan.evaluation.moments import load_statistics

_ROWS = np.random.RandomState(0).rand(20, 4)
MEAN, COV = _ROWS.mean(0), np.cov(_ROWS, rowvar=False)
GOOD = dict(mean=MEAN, cov=COV, size=20, extractor='some', name='set', content='', whole=True)


def pkl(**changes) -> bytes:
    return pickle.dumps(GOOD | changes, protocol=3)


def npz(save=np.savez, **changes) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **(GOOD | changes))
    return buffer.getvalue()


def npy(shape: str, data: bytes, descr: str = "'<f8'") -> bytes:
    """An array's file with any shape and type in its header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text = header.encode().ljust(117) + b'\n'
    return np.lib.format.magic(1, 0) + struct.pack('<H', len(text)) + text + data


def with_member(name: str, data: bytes, compression=zipfile.ZIP_STORED) -> bytes:
    """The archive with one of its arrays replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as old, zipfile.ZipFile(buffer, 'w', compression) as new:
        for record in old.infolist():
            if record.filename != name:
                new.writestr(record, old.read(record))
        new.writestr(name, data)
    return buffer.getvalue()


def lists(depth: int) -> list:
    """10 ** depth numbers, in a few bytes."""
    return functools.reduce(lambda values, _: [values] * 10, range(depth), [0.0])


PLAIN, PACKED = npz(), npz(np.savez_compressed)
REFUSED = {
    **{f'pickle, {name}': data for name, data in cuts(pkl(), 20).items()},
    **{f'npz, {name}': data for name, data in cuts(PLAIN, 15).items()},
    **{f'compressed, {name}': data for name, data in cuts(PACKED, 15).items()},
    **{f'{name} for an array': pkl(mean=attack) for name, attack in ATTACKS.items()},
    'empty': b'',
    'a covariance of others': pkl(cov=np.eye(5)),
    'NaN': pkl(mean=MEAN * np.nan),
    'two dimensions': pkl(mean=np.zeros((2, 2))),
    'text': pkl(mean=np.array(['a', 'b', 'c', 'd'])),
    'not symmetric': pkl(cov=np.triu(np.ones((4, 4)))),
    'one negative variance': pkl(cov=np.diag([1.0, 1, 1, -1])),
    'a negative size': pkl(size=-1),
    'a list': pickle.dumps([MEAN, COV]),
    'lists without end': pkl(mean=lists(30), cov=lists(30)),
    'pickle, a gigantic shape': pkl().replace(b'K\x04\x85', b'\x8a\x06' + (10**13).to_bytes(6, 'little') + b'\x85'),
    'dtypes of dtypes': pickle.dumps(dict(mean=Call(np.dtype, Call(np.dtype, 'f8')), cov=COV)),
    'npz, a gigantic shape': with_member('mean.npy', npy('(10000000000000,)', bytes(32))),
    'npz, a header that is code': with_member('mean.npy', npy("open('executed', 'w')", bytes(32))),
    'npz, objects': with_member('mean.npy', npy('(1,)', pickle.dumps(ATTACKS['os.system']), "'|O'")),
    'npz, records': with_member('mean.npy', npy('(4,)', bytes(32), "[('a', '<f8')]")),
    'npz, a bomb': with_member('cov.npy', npy('(4000, 4000)', bytes(4000 * 4000 * 8)), zipfile.ZIP_DEFLATED),
}


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'broken.pkl'


def is_the_original(statistics) -> bool:
    return np.array_equal(statistics.mean, MEAN) and np.array_equal(statistics.cov, COV) and statistics.size in (0, 20)


@pytest.mark.parametrize('name', REFUSED)
def test_broken_files_are_refused(path, name):
    path.write_bytes(REFUSED[name])
    with limits(), pytest.raises(DataError, match=r'broken\.pkl'):
        load_statistics(path)


@pytest.mark.parametrize('whole', [PLAIN, PACKED, pkl()], ids=['npz', 'compressed', 'pickle'])
def test_flipped_bits(path, whole):
    path.write_bytes(whole)
    assert is_the_original(load_statistics(path))
    for data in flips(whole, 300 if whole == pkl() else 40).values():
        path.write_bytes(data)
        with limits():
            try:
                statistics = load_statistics(path)
            except DataError as error:
                assert 'broken.pkl' in str(error)
            else:
                is_good = statistics.mean.shape == (4,) and np.isfinite(statistics.cov).all()
                assert is_the_original(statistics) or (whole == pkl() and is_good)


def test_the_images_in_adms_files_are_not_unpacked(path):
    path.write_bytes(npz(np.savez_compressed, arr_0=np.zeros(10**6, np.uint8)))
    assert is_the_original(load_statistics(path))
