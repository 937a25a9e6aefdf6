import pickle
import struct

import numpy as np
import pytest
import torch
from breaking import Call

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.errors import CheckpointError
from mmsagan.utils.pickles import load_array_pickle

ARRAYS = [
    np.arange(6).reshape(2, 3).astype(dtype)
    for dtype in ('?', 'u1', '<i2', '>i4', '<i8', '>u8', '<f2', '>f4', '<f8', '>f8', '<c16', 'S3', '<U4', '>U4')
]
ARRAYS += [np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.array(3.5), np.zeros((0, 5)), np.arange(10)[::3]]
SCALARS = [np.float64(2.5), np.int8(-3), np.bool_(True), np.str_('text'), np.bytes_(b'\xff'), np.complex64(1j)]


def array_of(dtype, data, shape=(1,)) -> Call:
    start = np.zeros(0).__reduce__()
    return Call(*start[:1], *start[1], state=(1, shape, dtype, False, data))


ADDRESS = struct.pack('<Q', 0x414141414141)
SCALAR = np.float64(0).__reduce__()[0]
FIELDS = ('a',), {'a': (np.dtype('O'), 0)}
FORGED = {
    # Flags that say that there are no pointers, and fields that say there are: numpy follows them.
    'fields of pointers': array_of(Call(np.dtype, 'V8', False, True, state=(3, '|', None, *FIELDS, 8, 1, 0)), ADDRESS),
    'fields of a number': array_of(Call(np.dtype, 'f8', False, True, state=(3, '<', None, *FIELDS, 8, 8, 0x3F)), ADDRESS),
    'objects as bytes': array_of(np.dtype('O'), ADDRESS),
    'a dtype that is none': array_of('f8', bytes(8)),
    'too few bytes': array_of(np.dtype('f8'), bytes(8), (10**12,)),
    'a negative length': array_of(np.dtype('f8'), bytes(8), (-1, -1)),
    'a scalar of pointers': Call(SCALAR, np.dtype('O'), ADDRESS),
    'memory by number': Call(np.ndarray, (10**15,), np.dtype('u1')),
}


@pytest.mark.parametrize('protocol', [0, 2, pickle.HIGHEST_PROTOCOL])
def test_arrays_and_scalars_arrive_as_they_were(protocol):
    loaded = load_array_pickle(pickle.dumps(ARRAYS + SCALARS, protocol=protocol))
    for original, found in zip(ARRAYS + SCALARS, loaded, strict=True):
        assert found.dtype == original.dtype.newbyteorder('=') or found.dtype == original.dtype
        assert found.shape == original.shape and np.array_equal(found, original)
    assert all(type(found) is type(original) for original, found in zip(SCALARS, loaded[len(ARRAYS) :]))
    assert loaded[len(ARRAYS) - 4].flags.f_contiguous
    again = pickle.loads(pickle.dumps(loaded[0], protocol=protocol))
    assert type(again) is np.ndarray and np.array_equal(again, ARRAYS[0])


@pytest.mark.parametrize('name', FORGED)
def test_forged_arrays_are_refused(tmp_path, name):
    with pytest.raises(pickle.UnpicklingError):
        load_array_pickle(pickle.dumps(dict(mean=FORGED[name]), protocol=2))
    torch.save(dict(mean=FORGED[name]), tmp_path / 'forged.pth')
    with pytest.raises(CheckpointError, match='forged.pth'):
        load_checkpoint_file(tmp_path / 'forged.pth')


def test_crafted_pickles():
    assert load_array_pickle(pickle.dumps(b'caf\xe9', protocol=2)) == b'caf\xe9'
    # Attributes may be set of arrays only, not of the functions that a pickle may name: they serve the next one, too.
    with pytest.raises(pickle.UnpicklingError, match='function'):
        load_array_pickle(b'\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.')
