import ctypes
import gc
import itertools
import sys
import weakref

import pytest
import torch

from mmsagan.analysis import measuring
from mmsagan.analysis.measuring import Timing, peak_memory, time_alternately
from mmsagan.errors import ConfigError
from mmsagan.utils.memory import glibc, keep_freed_memory, return_freed_memory

on_linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux tells')


def test_median_and_spread():
    timing = Timing((5.0, 1.0, 100.0, 2.0, 3.0))
    assert timing.median == 3
    assert timing.spread == 5 - 2, 'the quartiles of five values are the second and the fourth'


def test_actions_take_turns_and_only_they_are_timed():
    now, calls, collected = [0.0], [], []
    durations = {'a': itertools.count(1), 'b': itertools.count(100)}

    def action(name):
        def run():
            calls.append(name)
            collected.append(gc.isenabled())
            now[0] += next(durations[name])

        return run

    timings = time_alternately({'a': action('a'), 'b': action('b')}, rounds=6, warmup=2, clock=lambda: now[0])
    assert ''.join(calls) == 'abab' + 'abba' * 3
    assert timings['a'].seconds == (3, 4, 5, 6, 7, 8) and timings['b'].seconds == (102, 103, 104, 105, 106, 107)
    assert (timings['a'].first, timings['b'].first) == (1, 100)
    assert not any(collected[4:]), 'garbage collection is not timed'
    assert gc.isenabled()


def test_what_is_done_before_a_turn_and_the_call_after_it_are_not_timed():
    now, calls = [0.0], []

    def action(name, seconds):
        def run():
            calls.append(name)
            now[0] += seconds

        return run

    timings = time_alternately(
        {'a': action('a', 1), 'b': action('b', 2)},
        rounds=5,
        warmup=1,
        clock=lambda: now[0],
        before={'b': action('B', 50), 'c': action('C', 50)},
    )
    assert ''.join(calls) == 'aBb' + 'aBbb' + 'Bbba' + 'aBbb' + 'Bbba' + 'aBbb'
    assert timings['a'].seconds == (1,) * 5 and timings['b'].seconds == (2,) * 5


def test_garbage_of_a_call_is_collected_before_the_next():
    class Cycle:
        pass

    left, alive = [], []

    def leave_a_cycle():
        cycle = Cycle()
        cycle.itself = cycle
        left.append(weakref.ref(cycle))
        alive.append(sum(reference() is not None for reference in left))

    time_alternately({'a': leave_a_cycle}, rounds=5, warmup=0)
    assert alive == [1] * 5
    assert gc.get_freeze_count() == 0


def test_garbage_collection_comes_back_after_an_error():
    with pytest.raises(ZeroDivisionError):
        time_alternately({'a': lambda: 1 / 0}, warmup=0)
    assert gc.isenabled()


def test_too_few_rounds():
    with pytest.raises(ConfigError, match='at least 5 rounds, got 4'):
        time_alternately({'a': int}, rounds=4)


def test_fewer_rounds_where_they_are_allowed_have_a_median_and_no_spread():
    timing = time_alternately({'a': int}, rounds=2, min_rounds=2)['a']
    assert len(timing.seconds) == 2 and min(timing.seconds) <= timing.median <= max(timing.seconds)
    assert timing.spread is None
    with pytest.raises(ConfigError, match='at least 2 rounds, got 1'):
        time_alternately({'a': int}, rounds=1, min_rounds=2)


@on_linux
def test_peak_memory_is_what_lives_at_once():
    def two_of_three():
        first = torch.ones(20 * 2**18)
        second = torch.ones(20 * 2**18)
        del first
        third = torch.ones(20 * 2**18)
        return second, third

    for _ in range(2):
        assert peak_memory(two_of_three) == pytest.approx(40, abs=2)


@on_linux
def test_peak_memory_leaves_out_what_is_there_before():
    kept = []

    def first_call_keeps():
        if not kept:
            kept.append(torch.ones(30 * 2**18))

    assert peak_memory(first_call_keeps) == pytest.approx(0, abs=2)


@on_linux
def test_peak_memory_of_many_small_tensors_after_others():
    """The heap's free memory, which these leave, does not hide what the next call needs."""
    for _ in range(3):
        [torch.ones(2**16) for _ in range(200)]
    assert peak_memory(lambda: [torch.ones(2**16) for _ in range(100)]) == pytest.approx(25, abs=3)


@on_linux
def test_peak_memory_in_a_process_that_keeps_what_it_frees():
    """Its heap has room for all that the call needs, and the call needs it all the same."""
    keep_freed_memory()
    try:
        torch.ones(60 * 2**18)
        assert peak_memory(lambda: torch.ones(40 * 2**18)) == pytest.approx(40, abs=2)
    finally:
        return_freed_memory()


def test_peak_memory_where_the_system_does_not_tell(monkeypatch):
    def refuse(path, text):
        raise PermissionError(path)

    monkeypatch.setattr(measuring.Path, 'write_text', refuse)
    assert peak_memory(lambda: torch.ones(10)) is None


def test_peak_memory_without_glibc(monkeypatch):
    def no_library(name):
        raise OSError('there is none')

    monkeypatch.setattr(measuring.ctypes, 'CDLL', no_library)
    memory = peak_memory(lambda: torch.ones(10))
    assert memory is None or memory >= 0


def test_a_preloaded_malloc_is_let_alone(monkeypatch):
    class Library:
        def __init__(self, name):
            self.malloc, self.free, self.malloc_trim = (ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0) for _ in range(3))

    monkeypatch.setattr(measuring.ctypes, 'CDLL', Library)
    assert glibc() is None


class FakeGPU:
    """The memory statistics of a GPU on which a call allocates."""

    def __init__(self):
        self.allocated = self.peak = 100 * 2**20

    def allocate(self, size):
        self.allocated += size
        self.peak = max(self.peak, self.allocated)

    def reset_peak_memory_stats(self, device):
        self.peak = self.allocated

    def memory_allocated(self, device):
        return self.allocated

    def max_memory_allocated(self, device):
        return self.peak

    def synchronize(self, device):
        pass


def test_peak_memory_of_a_gpu(monkeypatch):
    gpu = FakeGPU()
    for name in ('reset_peak_memory_stats', 'memory_allocated', 'max_memory_allocated', 'synchronize'):
        monkeypatch.setattr(torch.cuda, name, getattr(gpu, name))

    def call():
        gpu.allocate(50 * 2**20)
        gpu.allocate(-50 * 2**20)

    assert peak_memory(call, 'cuda') == 50
