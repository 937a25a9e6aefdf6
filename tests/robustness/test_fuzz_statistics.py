"""Broken and hostile files of statistics: each is refused with its name, or is what it was."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from breaking import ATTACKS, Call, cuts, flips, limits

from mmsagan.errors import DataError
from mmsagan.evaluation import moments
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


def npy(header: str, data: bytes = b'') -> bytes:
    """An array's file with a header of one's own."""
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


def header(shape, descr="'<f8'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def lists(depth: int) -> list:
    """10 ** depth numbers, in a few bytes."""
    values = [0.0]
    for _ in range(depth):
        values = [values] * 10
    return values


PLAIN, PACKED = npz(), npz(np.savez_compressed)
NUMBERS = {
    'a mean of 0 features': dict(mean=np.zeros(0), cov=np.zeros((0, 0))),
    'a mean of two dimensions': dict(mean=np.zeros((2, 2))),
    'a covariance of others': dict(cov=np.eye(5)),
    'NaN': dict(mean=MEAN * np.nan),
    'Inf': dict(cov=COV * np.inf),
    'not symmetric': dict(cov=np.triu(np.ones((4, 4)))),
    'one negative variance': dict(cov=np.diag([1.0, 1, 1, -1])),
    'complex': dict(mean=MEAN * 1j),
    'text': dict(mean=np.array(['a', 'b', 'c', 'd'])),
    'a negative size': dict(size=-1),
    'a size without end': dict(size=float('inf')),
    'a size in words': dict(size='many'),
    'many answers': dict(whole=np.array([True, False])),
}
PICKLES = {
    'a list': pickle.dumps([MEAN, COV]),
    'no mean': pickle.dumps(dict(cov=COV)),
    'names that are bytes': pickle.dumps({b'mean': MEAN, b'cov': COV}),
    'lists for arrays': pkl(mean=MEAN.tolist(), cov=COV.tolist()),
    'lists without end': pkl(mean=lists(30), cov=lists(30)),
    'objects': pkl(mean=MEAN.astype(object)),
    'a gigantic shape': pkl().replace(b'K\x04\x85', b'\x8a\x06' + (10**13).to_bytes(6, 'little') + b'\x85'),
    'a memo of 2 ** 31': b'\x80\x02Nr' + struct.pack('<I', 2**31 - 1) + b'.',
    'bytes of 2 ** 62': b'\x80\x04\x8e' + struct.pack('<Q', 2**62) + b'abc.',
    'lists in lists': b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.',
    'dtypes of dtypes': pickle.dumps(dict(mean=Call(np.dtype, Call(np.dtype, 'f8')), cov=COV)),
    'a dtype of commas': pickle.dumps(dict(mean=Call(np.dtype, 'f8,O'), cov=COV)),
}
ARCHIVES = {
    'no archive': b'PK\x03\x04' + bytes(100),
    'no arrays': with_member('mean.npy', b'no array'),
    'a gigantic shape': with_member('mean.npy', npy(header('(10000000000000,)'), bytes(32))),
    'a negative shape': with_member('mean.npy', npy(header('(-4,)'), bytes(32))),
    'a header that is code': with_member('mean.npy', npy("open('executed', 'w')", bytes(32))),
    'objects': with_member('mean.npy', npy(header('(1,)', "'|O'"), pickle.dumps(ATTACKS['os.system']))),
    'records': with_member('mean.npy', npy(header('(4,)', "[('a', '<f8')]"), bytes(32))),
    'a header of many bytes': with_member('mean.npy', np.lib.format.magic(2, 0) + struct.pack('<I', 2**31 - 1) + b'{'),
    'a bomb': with_member('cov.npy', npy(header('(4000, 4000)'), bytes(4000 * 4000 * 8)), zipfile.ZIP_DEFLATED),
}
REFUSED = {
    **{f'pickle, {name}': data for name, data in cuts(pkl(), 20).items()},
    **{f'npz, {name}': data for name, data in cuts(PLAIN, 15).items()},
    **{f'compressed, {name}': data for name, data in cuts(PACKED, 15).items()},
    **{f'pickle of {name}': pkl(**changes) for name, changes in NUMBERS.items()},
    **{f'npz of {name}': npz(**changes) for name, changes in NUMBERS.items()},
    **{f'pickle, {name}': data for name, data in PICKLES.items()},
    **{f'npz, {name}': data for name, data in ARCHIVES.items()},
    **{f'{name} for an array': pkl(mean=attack) for name, attack in ATTACKS.items()},
    **{f'{name} beside the arrays': pkl(more=[(attack,)]) for name, attack in ATTACKS.items()},
    'empty': b'',
    'zeros': bytes(1000),
}
FLIPPED = {
    'npz': flips(PLAIN, 40).values(),
    'compressed': flips(PACKED, 40).values(),
    'pickle': flips(pkl(), 300).values(),
}


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'broken.pkl'


def is_the_original(statistics) -> bool:
    return np.array_equal(statistics.mean, MEAN) and np.array_equal(statistics.cov, COV) and statistics.size in (0, 20)


def test_the_files_are_good_before_they_are_broken(path):
    for data in (pkl(), PLAIN, PACKED):
        path.write_bytes(data)
        with limits():
            assert is_the_original(load_statistics(path))


@pytest.mark.parametrize('name', REFUSED)
def test_broken_files_are_refused(path, name):
    path.write_bytes(REFUSED[name])
    with limits(), pytest.raises(DataError, match=r'broken\.pkl'):
        load_statistics(path)


@pytest.mark.parametrize('kind', FLIPPED)
def test_flipped_bits(path, kind):
    """They are found, or harmless. Pickles have no sums: their numbers may change, but are statistics still."""
    for data in FLIPPED[kind]:
        path.write_bytes(data)
        with limits():
            try:
                statistics = load_statistics(path)
            except DataError as error:
                assert 'broken.pkl' in str(error)
            else:
                is_good = statistics.mean.shape == (4,) and np.isfinite(statistics.cov).all()
                assert is_the_original(statistics) or (kind == 'pickle' and is_good)


def test_files_that_would_fill_the_memory(path, monkeypatch):
    monkeypatch.setattr(moments, '_MAX_BYTES', 10_000)
    large = dict(mean=np.zeros(100), cov=np.eye(100))
    for data in (pkl(**large), npz(np.savez_compressed, **large)):
        path.write_bytes(data)
        with limits(), pytest.raises(DataError, match=r'broken\.pkl: .* 10000 bytes'):
            load_statistics(path)
    # ADM's files of statistics have the images, too: arrays of no use are not unpacked.
    path.write_bytes(npz(np.savez_compressed, arr_0=np.zeros(10**6, np.uint8)))
    assert is_the_original(load_statistics(path))
