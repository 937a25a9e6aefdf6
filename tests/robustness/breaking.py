"""Ways to break files, and to see that nothing worse comes of them than an error of ours."""

import builtins
import codecs
import copyreg
import functools
import importlib
import operator
import os
import pickle
import posixpath
import random
import resource
import runpy
import signal
import subprocess
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

# Relative: each test runs in a folder of its own.
CANARY = 'executed'


class TooSlow(BaseException):
    """No Exception, so that no loader takes it for damage of its file."""


@contextmanager
def limits(seconds: float = 10, gigabytes: float = 1.5) -> Iterator[None]:
    """Within it, hangs and large allocations are errors; and afterwards, nothing may have been executed."""

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
    """The beginnings of a file, spread over it; the shortest and the longest among them."""
    places = sorted({1, len(data) - 1, *(len(data) * step // (count - 1) for step in range(1, count - 1))})
    return {f'cut at {place}': data[:place] for place in places}


def flips(data: bytes, count: int, seed: int = 0) -> dict[str, bytes]:
    """The file with one bit flipped, at random places."""
    broken = {}
    for place in random.Random(seed).sample(range(8 * len(data)), count):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        broken[f'bit {place}'] = bytes(flipped)
    return broken


class Call:
    """Pickles as a call, and does it when it is unpickled by one who lets it."""

    def __init__(self, function: Callable, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


_TOUCH = f'touch {CANARY}'
_OPEN = f"open({CANARY!r}, 'w').close()"

# What hostile pickles call. Each would leave the canary behind, or give the next call a way to.
ATTACKS = {
    'os.system': Call(os.system, _TOUCH),
    'builtins.eval': Call(eval, _OPEN),
    'builtins.exec': Call(exec, _OPEN),
    'builtins.open': Call(open, CANARY, 'w'),
    'builtins.getattr of a module': Call(getattr, Call(importlib.import_module, 'os'), 'system'),
    'builtins.getattr of a class': Call(getattr, np.ndarray, 'tofile'),
    'builtins.__import__': Call(builtins.__import__, 'antigravity'),
    'builtins.compile': Call(exec, Call(compile, _OPEN, 'name', 'exec')),
    'builtins.map': Call(list, Call(map, os.system, [_TOUCH])),
    'subprocess.Popen': Call(subprocess.Popen, ['touch', CANARY]),
    'functools.partial': Call(functools.partial, os.system, _TOUCH),
    'operator.methodcaller': Call(operator.methodcaller('system', _TOUCH), Call(importlib.import_module, 'os')),
    'runpy.run_path': Call(runpy.run_path, CANARY),
    'pickle.loads': Call(pickle.loads, pickle.dumps(Call(os.system, _TOUCH))),
    'codecs.decode': Call(exec, Call(codecs.decode, codecs.encode(_OPEN, 'rot13'), 'rot13')),
    'copyreg._reconstructor': Call(copyreg._reconstructor, types.SimpleNamespace, object, None),
    'a state with code': Call(types.SimpleNamespace, state=dict(x=Call(os.system, _TOUCH))),
    'numpy.load': Call(np.load, CANARY, None, True),
    'numpy.fromfile': Call(np.fromfile, CANARY),
    'torch.load': Call(torch.load, CANARY),
    'torch.hub.load': Call(torch.hub.load, CANARY, CANARY),
    'torch.jit.load': Call(torch.jit.load, CANARY),
    'torch.save': Call(torch.save, {}, CANARY),
    'posixpath.expanduser': Call(posixpath.expanduser, '~'),
    'os.remove': Call(os.remove, CANARY),
    'an array of objects': np.array([Call(os.system, _TOUCH)], dtype=object),
}


def nested(attack) -> dict[str, object]:
    """The same deep inside of values that are allowed."""
    return {
        'alone': attack,
        'a value': dict(state_dict=dict(weight=attack)),
        'deep': dict(state_dict=[({'a': (1, [attack])},)]),
    }
