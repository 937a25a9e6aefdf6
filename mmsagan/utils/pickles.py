"""Reading pickles that hold numpy arrays, without running code from them.

numpy's own functions are no help with that: what a dtype takes from a pickle as its state, it believes, and a dtype that claims
to hold pointers where there are bytes makes the array read memory of the pickle's choice. Here stand-ins take the place of
everything that a pickled array names, and take numbers and text from it, nothing else.
"""

import io
import math
import pickle

import numpy as np


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into pickles of protocol 2."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'it asks for the encoding {encoding!r}')
    return text.encode('latin1')


class PickledDtype:
    """Stands in for ``numpy.dtype`` in a pickle: numbers, flags and text, in either byte order.

    Args:
        code: Such as ``'f8'``.
        *_: What numpy writes besides, and means nothing for these types.
    """

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
    """An array from a pickle: ``numpy.ndarray`` in all but how it takes its content. Pickled again, it is a plain array."""

    def __new__(cls):
        return super().__new__(cls, 0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        *_, shape, dtype, is_fortran, data = state
        if type(dtype) is not PickledDtype or not isinstance(data, (bytes, str)):
            raise pickle.UnpicklingError('it holds an array of something else than numbers and text')
        if any(type(length) is not int or length < 0 for length in shape):
            raise pickle.UnpicklingError(f'it holds an array of the shape {shape!r:.100}')
        promised = math.prod(shape) * dtype.dtype.itemsize
        if promised != len(data):
            raise pickle.UnpicklingError(f'it holds an array of {promised} bytes, of which {len(data)} are there')
        super().__setstate__((1, shape, dtype.dtype, bool(is_fortran), data))

    def __reduce__(self):
        return self.view(np.ndarray).__reduce__()


def _reconstruct(*_) -> PickledArray:
    """Stands in for the function of that name: an array whose content is still to come."""
    return PickledArray()


def _scalar(dtype: PickledDtype, data: bytes | str = b'') -> np.generic:
    """Stands in for the function that makes a numpy scalar of its bytes."""
    array = PickledArray()
    array.__setstate__(((), dtype, False, data))
    return array[()]


def _no_bytes() -> bytes:
    """Stands in for ``bytes``, of which older protocols make the content of an empty array."""
    return b''


def _frombuffer(
    data: bytes | bytearray, dtype: PickledDtype, shape: tuple, order: str, axes: tuple | None = None
) -> np.ndarray:
    """Stands in for the function that makes an array in protocol 5, the default of Python 3.14."""
    array = np.frombuffer(data, dtype.dtype)
    return array.reshape(shape, order=order) if axes is None else array.reshape(shape).transpose(axes)


# What pickled arrays are rebuilt with; numpy has moved its functions between these modules over the years.
ARRAY_GLOBALS = {
    **{f'numpy.{core}.multiarray._reconstruct': _reconstruct for core in ('core', '_core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('core', '_core')},
    **{f'numpy.{core}.numeric._frombuffer': _frombuffer for core in ('core', '_core')},
    'builtins.bytes': _no_bytes,
    'numpy.ndarray': PickledArray,
    'numpy.dtype': PickledDtype,
}
_SAFE_GLOBALS = {**ARRAY_GLOBALS, '__builtin__.bytes': _no_bytes, '_codecs.encode': _latin1_bytes}


class _ArrayUnpickler(pickle._Unpickler):
    # The one in Python: the one in C takes memory for as many objects as a pickle claims that it will remember.

    def find_class(self, module: str, name: str):
        try:
            return _SAFE_GLOBALS[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(
                f'it asks for {module}.{name}, and only numpy arrays and plain values are allowed'
            ) from None

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (PickledArray, PickledDtype):
            raise pickle.UnpicklingError(f'it sets attributes of a {type(self.stack[-1]).__name__}')
        self.stack[-1].__setstate__(state)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}


def load_array_pickle(data: bytes, encoding: str = 'latin1'):
    """Unpickles plain Python values and numpy arrays of numbers and text; anything else is refused and never executed.

    Args:
        data: The pickle.
        encoding: How strings from Python 2 are decoded.

    Raises:
        pickle.UnpicklingError: The pickle is damaged or asks for anything but numpy's arrays.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding=encoding).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise pickle.UnpicklingError(f'it is damaged ({str(error) or type(error).__name__})') from error
