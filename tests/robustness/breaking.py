"""Broken and hostile files, and limits on what reading them may do."""

import codecs
import copyreg
import functools
import importlib
import os
import pickle
import random
import resource
import signal
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

# Relative: each test runs in a folder of its own.
CANARY = 'executed'


class TooSlow(BaseException):
    """Not an Exception, so that no loader mistakes it for a damaged file."""


@contextmanager
def limits(seconds: float = 10, gigabytes: float = 1.5) -> Iterator[None]:
    """Turns hangs and large allocations into errors; checks that no code of the file has been executed."""

    def stop(*_):
        raise TooSlow

    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (size + int(gigabytes * 2**30), before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
        assert not Path(CANARY).exists(), 'code of the file was executed'


def cuts(data: bytes, count: int) -> dict[str, bytes]:
    """Prefixes of a file, the shortest and the longest among them."""
    places = sorted({1, len(data) - 1, *(len(data) * step // (count - 1) for step in range(1, count - 1))})
    return {f'cut at {place}': data[:place] for place in places}


def flips(data: bytes, count: int, seed: int = 0) -> dict[str, bytes]:
    """The file with one random bit flipped."""
    broken = {}
    for place in random.Random(seed).sample(range(8 * len(data)), count):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        broken[f'bit {place}'] = bytes(flipped)
    return broken


class Call:
    """Is pickled as a call, which an unsafe reader makes."""

    def __init__(self, function: Callable, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


_TOUCH = f'touch {CANARY}'

# Each would create the canary, or gives the next call a way to.
ATTACKS = {
    'os.system': Call(os.system, _TOUCH),
    'builtins.eval': Call(eval, f"open({CANARY!r}, 'w').close()"),
    'builtins.getattr of a module': Call(getattr, Call(importlib.import_module, 'os'), 'system'),
    'builtins.getattr of a class': Call(getattr, np.ndarray, 'tofile'),
    'functools.partial': Call(functools.partial, os.system, _TOUCH),
    'pickle.loads': Call(pickle.loads, pickle.dumps(Call(os.system, _TOUCH))),
    'codecs.decode': Call(codecs.decode, 'x', 'rot13'),
    'copyreg._reconstructor': Call(copyreg._reconstructor, types.SimpleNamespace, object, None),
    'a state with code': Call(types.SimpleNamespace, state=dict(x=Call(os.system, _TOUCH))),
    'numpy.load': Call(np.load, CANARY, None, True),
    'torch.load': Call(torch.load, CANARY),
    'torch.save': Call(torch.save, {}, CANARY),
    'an array of objects': np.array([Call(os.system, _TOUCH)], dtype=object),
}
