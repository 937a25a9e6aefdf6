"""Pools, cores, memory and random numbers of processes."""

import ctypes
import errno
import os
import platform
import random
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.errors import DataError
from mmsagan.utils import random_states
from mmsagan.utils.memory import keep_freed_memory
from mmsagan.utils.processes import worker_map
from mmsagan.utils.random_states import fork_rng, get_rng_states, set_rng_states


def slow_at_first(number: int) -> tuple[int, int]:
    time.sleep(0.3 if number == 0 else 0)
    return number, os.getpid()


@pytest.mark.parametrize('workers', [1, 2])
def test_results_come_in_order(workers):
    with worker_map(workers) as map:
        results = list(map(slow_at_first, range(40)))
    assert [number for number, _ in results] == list(range(40))
    assert ({pid for _, pid in results} == {os.getpid()}) == (workers == 1)


def test_a_process_that_dies():
    with pytest.raises(DataError), worker_map(2) as map:
        list(map(os._exit, [3, 3]))


def test_a_process_that_hangs_does_not_hold_up_an_error():
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_map(2) as map:
        results = map(time.sleep, [0, 600])
        next(results)
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 300


def test_no_shared_memory_for_a_pool(monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('mmsagan.utils.processes.ProcessPoolExecutor', fail)
    with pytest.raises(DataError, match=r'/dev/shm .*--shm-size.*--workers 1'), worker_map(2):
        pass


# Page faults of making and freeing a block of 256 MB ten times, of which each touches every page.
COUNT_FAULTS = """
import resource, sys, numpy
from mmsagan.utils.memory import keep_freed_memory
assert sys.argv[1:] or keep_freed_memory()
numpy.ones(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    numpy.ones(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc' or 'LD_PRELOAD' in os.environ, reason='not the malloc of glibc')
def test_kept_memory_is_not_asked_for_again(monkeypatch):
    def faults(*arguments: str) -> int:
        command = [sys.executable, '-c', COUNT_FAULTS, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # At least one page in 2 MB is touched anew each time, also where the kernel hands out huge pages.
    assert faults() < 128 and faults('as it is') > 10 * 128
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: open('/nowhere/libc.so.6'))
    assert keep_freed_memory() is False, 'elsewhere nothing happens'


def draw() -> list:
    return [random.random(), np.random.randn(3).tolist(), random.gauss(0, 1), torch.randn(3).tolist()]


def test_states_survive_a_checkpoint(tmp_path):
    draw()
    torch.save(dict(states=get_rng_states()), tmp_path / 'states.pth')
    expected = draw(), draw()
    set_rng_states(load_checkpoint_file(tmp_path / 'states.pth')['states'])
    assert (draw(), draw()) == expected


def test_the_state_of_a_gpu(monkeypatch):
    """Of any kind; this is a stand-in."""
    restored = []
    module = SimpleNamespace(get_rng_state=lambda: torch.tensor([7]), set_rng_state=restored.append)
    monkeypatch.setattr(torch, 'get_device_module', dict(mps=module).__getitem__)
    monkeypatch.setattr(random_states, 'get_device', lambda: 'mps')
    states = get_rng_states()
    set_rng_states(states)
    monkeypatch.setattr(random_states, 'get_device', lambda: 'cpu')
    set_rng_states(states)  # resumed without one
    assert restored == [torch.tensor([7])] and get_rng_states().keys() == states.keys() - {'mps'}


def test_drawing_from_a_seed():
    with fork_rng(1, 2, 3):
        first = draw()
    expected = get_rng_states()
    found = []
    for seed in ((1, 2, 3), (1, 2, 4), (1, 2), (3, 2, 1)):
        with fork_rng(*seed):
            found.append(draw())
    assert found[0] == first and all(other[i] != first[i] for other in found[1:] for i in range(4))
    state = get_rng_states()
    assert state['python'] == expected['python'] and torch.equal(state['torch'], expected['torch'])
    assert np.array_equal(state['numpy'][1], expected['numpy'][1]) and state['numpy'][2:] == expected['numpy'][2:]
