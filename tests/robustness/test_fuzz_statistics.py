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
    'a mean of no dimension': dict(mean=np.array(1.0)),
    'a covariance of one dimension': dict(cov=np.zeros(16)),
    'a covariance of three dimensions': dict(cov=np.zeros((4, 4, 1))),
    'a covariance of others': dict(cov=np.eye(5)),
    'a covariance that is no square': dict(cov=np.zeros((4, 5))),
    'NaN': dict(mean=MEAN * np.nan),
    'Inf': dict(cov=COV * np.inf),
    'one NaN': dict(cov=np.where(np.eye(4) > 0, COV, np.nan)),
    'not symmetric': dict(cov=np.triu(np.ones((4, 4)))),
    'negative variances': dict(cov=-COV),
    'one negative variance': dict(cov=np.diag([1.0, 1, 1, -1])),
    'complex': dict(mean=MEAN * 1j),
    'booleans': dict(mean=np.ones(4, bool)),
    'text': dict(mean=np.array(['a', 'b', 'c', 'd'])),
    'a negative size': dict(size=-1),
    'a size without end': dict(size=float('inf')),
    'a size that is none': dict(size=float('nan')),
    'a size in words': dict(size='many'),
    'many sizes': dict(size=np.arange(3)),
    'many answers': dict(whole=np.array([True, False])),
}
PICKLES = {
    'a list': pickle.dumps([MEAN, COV]),
    'a number': pickle.dumps(3),
    'no mean': pickle.dumps(dict(cov=COV)),
    'other names': pickle.dumps(dict(average=MEAN, variance=COV)),
    'names that are bytes': pickle.dumps({b'mean': MEAN, b'cov': COV}),
    'numbers for arrays': pkl(mean=0.0, cov=1.0),
    'lists for arrays': pkl(mean=MEAN.tolist(), cov=COV.tolist()),
    'lists without end': pkl(mean=lists(30), cov=lists(30)),
    'a dict for an array': pkl(mean={}),
    'nothing for an array': pkl(mean=None),
    'objects': pkl(mean=MEAN.astype(object)),
    'a gigantic shape': pkl().replace(b'K\x04\x85', b'\x8a\x06' + (10**13).to_bytes(6, 'little') + b'\x85'),
    'a memo of 2 ** 31': b'\x80\x02Nr' + struct.pack('<I', 2**31 - 1) + b'.',
    'a text of 2 ** 31 bytes': b'\x80\x02X' + struct.pack('<I', 2**31 - 1) + b'abc.',
    'bytes of 2 ** 62': b'\x80\x04\x8e' + struct.pack('<Q', 2**62) + b'abc.',
    'a frame of 2 ** 62 bytes': b'\x80\x04\x95' + struct.pack('<Q', 2**62) + b'N.',
    'marks alone': b'\x80\x02' + b'(' * 10_000 + b'.',
    'lists in lists': b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.',
    'an extension': b'\x80\x02\x82\x01.',
    'a persistent object': b'\x80\x02X\x01\x00\x00\x00aQ.',
    'dtypes of dtypes': pickle.dumps(dict(mean=Call(np.dtype, Call(np.dtype, 'f8')), cov=COV)),
    'a dtype of commas': pickle.dumps(dict(mean=Call(np.dtype, 'f8,O'), cov=COV)),
}
ARCHIVES = {
    'no archive': b'PK\x03\x04' + bytes(100),
    'an empty archive': b'PK\x05\x06' + bytes(18),
    'no arrays': with_member('mean.npy', b'no array'),
    'an array without bytes': with_member('mean.npy', npy(header('(4,)'))),
    'an empty array file': with_member('mean.npy', b''),
    'a gigantic shape': with_member('mean.npy', npy(header('(10000000000000,)'), bytes(32))),
    'a shape that overflows': with_member('mean.npy', npy(header('(4611686018427387904, 4)'), bytes(32))),
    'a negative shape': with_member('mean.npy', npy(header('(-4,)'), bytes(32))),
    'a shape of words': with_member('mean.npy', npy(header("('4',)"), bytes(32))),
    'a header that is code': with_member('mean.npy', npy("open('executed', 'w')", bytes(32))),
    'a header without end': with_member('mean.npy', npy('[' * 100, bytes(32))),
    'objects': with_member('mean.npy', npy(header('(1,)', "'|O'"), pickle.dumps(ATTACKS['os.system']))),
    'records': with_member('mean.npy', npy(header('(4,)', "[('a', '<f8')]"), bytes(32))),
    'an array of objects': npz(mean=np.array([ATTACKS['os.system']] * 4)),
    'a header of many bytes': with_member('mean.npy', np.lib.format.magic(2, 0) + struct.pack('<I', 2**31 - 1) + b'{'),
    'an unknown version': with_member('mean.npy', np.lib.format.magic(9, 9) + bytes(100)),
    'another compression': with_member('mean.npy', npy(header('(4,)'), bytes(32))).replace(b'mean.npy', b'../m.npy'),
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
    'an array alone': npy(header('(4,)'), bytes(32)),
    'text': b'mean,cov\n1,2\n',
}
FLIPPED = {
    **{f'npz, {name}': data for name, data in flips(PLAIN, 40).items()},
    **{f'compressed, {name}': data for name, data in flips(PACKED, 40).items()},
}


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'broken.pkl'


def is_the_original(statistics) -> bool:
    return np.array_equal(statistics.mean, MEAN) and np.array_equal(statistics.cov, COV) and statistics.size in (0, 20)


@pytest.mark.parametrize('data', [pkl(), PLAIN, PACKED], ids=['pickle', 'npz', 'compressed'])
def test_the_files_are_good_before_they_are_broken(path, data):
    path.write_bytes(data)
    with limits():
        assert is_the_original(load_statistics(path))


@pytest.mark.parametrize('name', REFUSED)
def test_broken_files_are_refused(path, name):
    path.write_bytes(REFUSED[name])
    with limits(), pytest.raises(DataError, match=r'broken\.pkl'):
        load_statistics(path)


@pytest.mark.parametrize('name', FLIPPED)
def test_flipped_bits_are_found_or_harmless(path, name):
    path.write_bytes(FLIPPED[name])
    with limits():
        try:
            statistics = load_statistics(path)
        except DataError as error:
            assert 'broken.pkl' in str(error)
        else:
            assert is_the_original(statistics)


def test_flipped_bits_of_pickles_are_no_traceback(path):
    """Pickles have no sums: numbers may change. What is no statistics any more is refused all the same."""
    for data in flips(pkl(), 300).values():
        path.write_bytes(data)
        with limits():
            try:
                statistics = load_statistics(path)
            except DataError as error:
                assert 'broken.pkl' in str(error)
            else:
                assert statistics.mean.shape == (4,) and np.isfinite(statistics.cov).all()


@pytest.mark.parametrize('kind', ['a large pickle', 'a large member'])
def test_files_that_would_fill_the_memory(path, monkeypatch, kind):
    monkeypatch.setattr(moments, '_MAX_BYTES', 10_000)
    large = dict(mean=np.zeros(100), cov=np.eye(100))
    path.write_bytes(pkl(**large) if kind == 'a large pickle' else npz(np.savez_compressed, **large))
    with limits(), pytest.raises(DataError, match=r'broken\.pkl: .*more than 10000 bytes'):
        load_statistics(path)


def test_arrays_of_no_use_are_not_unpacked(path, monkeypatch):
    """ADM's files of statistics have the images, too."""
    monkeypatch.setattr(moments, '_MAX_BYTES', 10_000)
    path.write_bytes(npz(np.savez_compressed, arr_0=np.zeros(10**6, np.uint8)))
    assert is_the_original(load_statistics(path))
