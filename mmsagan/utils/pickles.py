"""Reading pickles that hold numpy arrays, without running code from them."""

import io
import pickle

import numpy as np


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into pickles of protocol 2."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'it asks for the encoding {encoding!r}')
    return text.encode('latin1')


_multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray

# What a pickled array is rebuilt with; numpy has moved its functions between these modules over the years.
NUMPY_GLOBALS = {
    **{(f'numpy.{core}.multiarray', '_reconstruct'): _multiarray._reconstruct for core in ('core', '_core')},
    **{(f'numpy.{core}.multiarray', 'scalar'): _multiarray.scalar for core in ('core', '_core')},
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
}
_SAFE_GLOBALS = {**NUMPY_GLOBALS, ('_codecs', 'encode'): _latin1_bytes}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _SAFE_GLOBALS:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}, and only numpy arrays and plain values are allowed')
        return _SAFE_GLOBALS[module, name]


def load_array_pickle(data: bytes, encoding: str = 'latin1'):
    """Unpickles plain Python values and numpy arrays; anything else is refused and never executed.

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
        raise pickle.UnpicklingError(f'it is damaged ({error})') from error
