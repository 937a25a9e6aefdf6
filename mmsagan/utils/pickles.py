"""Reading pickles of numpy arrays without running code from them; the arrays hold numbers and text only.

numpy's own functions trust a pickle: a dtype that claims to hold pointers makes the array read memory of the pickle's choice.
"""

import io
import math
import pickle

import numpy as np


class PickledDtype:
    """Replaces ``numpy.dtype`` in a pickle: numbers, flags and text, in either byte order."""

    def __init__(self, code: str, *_):
        self.dtype = np.dtype(code) if isinstance(code, str) else None
        if self.dtype is None or self.dtype.kind not in 'biufcSU':
            raise pickle.UnpicklingError(f'it holds an array of {code!r:.100}, and only numbers and text are allowed')

    def __setstate__(self, state: tuple) -> None:
        _, byte_order, *structure = state[:5]
        if structure != [None] * 3:
            raise pickle.UnpicklingError('it holds an array of records, and only numbers and text are allowed')
        self.dtype = self.dtype.newbyteorder(byte_order)


class PickledArray(np.ndarray):
    """Replaces ``numpy.ndarray`` in a pickle. Pickled again, it is a plain array."""

    def __new__(cls):
        return super().__new__(cls, 0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        *_, shape, dtype, is_fortran, data = state
        if type(dtype) is not PickledDtype or not isinstance(data, (bytes, str)):
            raise pickle.UnpicklingError('it holds an array of something other than numbers and text')
        if any(type(length) is not int or length < 0 for length in shape):
            raise pickle.UnpicklingError(f'it holds an array of the shape {shape!r:.100}')
        size = math.prod(shape) * dtype.dtype.itemsize
        if size != len(data):
            raise pickle.UnpicklingError(f'it holds an array of {size} bytes, of which {len(data)} are there')
        super().__setstate__((1, shape, dtype.dtype, bool(is_fortran), data))

    def __reduce__(self):
        return self.view(np.ndarray).__reduce__()


def _scalar(dtype: PickledDtype, data: bytes | str = b'') -> np.generic:
    array = PickledArray()
    array.__setstate__(((), dtype, False, data))
    return array[()]


def _frombuffer(data: bytes, dtype: PickledDtype, shape: tuple, order: str, axes: tuple | None = None) -> np.ndarray:
    # Makes an array in protocol 5, the default of Python 3.14.
    array = np.frombuffer(data, dtype.dtype)
    return array.reshape(shape, order=order) if axes is None else array.reshape(shape).transpose(axes)


# The functions that pickled arrays are rebuilt with; numpy has moved them between these modules over the years.
ARRAY_GLOBALS = {
    **{f'numpy.{core}.multiarray._reconstruct': lambda *_: PickledArray() for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('core', '_core')},
    **{f'numpy.{core}.numeric._frombuffer': _frombuffer for core in ('core', '_core')},
    'builtins.bytes': lambda: b'',  # the content of an empty array in older protocols
    'numpy.ndarray': PickledArray,
    'numpy.dtype': PickledDtype,
}
_SAFE_GLOBALS = {
    **ARRAY_GLOBALS,
    '__builtin__.bytes': lambda: b'',
    # Python 3 writes bytes as calls of this in protocol 2; other encodings are not its own.
    '_codecs.encode': lambda text, encoding: text.encode({'latin1': 'latin1'}[encoding]),
}


class _ArrayUnpickler(pickle._Unpickler):
    # The unpickler in Python: the one in C allocates memory for as many objects as a pickle claims to memoize.

    def find_class(self, module: str, name: str):
        if f'{module}.{name}' not in _SAFE_GLOBALS:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}, and only numpy arrays and plain values are allowed')
        return _SAFE_GLOBALS[f'{module}.{name}']

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (PickledArray, PickledDtype):
            raise pickle.UnpicklingError(f'it sets attributes of a {type(self.stack[-1]).__name__}')
        self.stack[-1].__setstate__(state)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}


def load_array_pickle(data: bytes, encoding: str = 'latin1'):
    """Unpickles plain values and arrays, with strings of Python 2 in an ``encoding``; an ``UnpicklingError`` for all else."""
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding=encoding).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise pickle.UnpicklingError(f'it is damaged ({str(error) or type(error).__name__})') from error
