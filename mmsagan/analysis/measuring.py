"""Time and memory that something takes, measured so that a second measurement says the same.

Times: the actions that are compared take turns in one process, so that what slows the machine for a while slows all of them;
who begins changes from round to round. The median of the rounds counts. Where an action needs a state of the process that the
others do not have, as one of :mod:`mmsagan.utils.memory`, that is set before each of its turns.

Memory: what one call needs at its peak beyond what lay there before it, such as the weights. On a GPU that is what tensors
occupy. On Linux it is resident memory as the kernel sees it, which holds tensors and the buffers of the CPU's kernels alike;
PyTorch's profiler would see the tensors only. The C library's heap would blur it: it keeps freed memory, which later calls fill
without growth, or not, as it happens. So for this measurement blocks of 64 KiB and more are taken from the kernel and given
back one by one, and it repeats within a per cent. It costs time, so timing is done without. It is what a call needs, however
much the process keeps. A child process would start with a clean heap, but also with cold kernels, and what is measured would
have to be built in it.
"""

import ctypes
import gc
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils import benchmark

from mmsagan.errors import ConfigError
from mmsagan.utils.memory import MB, MMAP_THRESHOLD, glibc, return_freed_memory

MIN_ROUNDS = 5
LARGE = 64 * 1024
# Of glibc's malloc.c: IS_MMAPPED, a bit of the word before a block that comes from the kernel.
_IS_KERNELS = 2
Action = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds that each call has taken.

    Args:
        seconds: Of the timed calls.
        first: Of the very first call, before them: what is compiled or chosen once is in it; None where it was not timed.

    Example:
        >>> timing = Timing((1.0, 2.0, 3.0, 4.0, 9.0))
        >>> timing.median, timing.spread
        (3.0, 2.0)
    """

    seconds: tuple[float, ...]
    first: float | None = None

    @property
    def median(self) -> float:
        """The middle one, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float | None:
        """The interquartile range, in seconds: the middle half of the calls lies within it, a single disturbed one does not.

        None where there are fewer than :data:`MIN_ROUNDS` of them, which say nothing of it.
        """
        if len(self.seconds) < MIN_ROUNDS:
            return None
        first, _, third = statistics.quantiles(self.seconds, n=4, method='inclusive')
        return third - first


def time_alternately(
    actions: Mapping[str, Action],
    rounds: int = MIN_ROUNDS,
    warmup: int = 2,
    clock: Callable[[], float] = benchmark.timer,
    before: Mapping[str, Action] | None = None,
    min_rounds: int = MIN_ROUNDS,
) -> dict[str, Timing]:
    """Times several actions, which take turns.

    Python's garbage is collected before each call, and not during it. An action that something is done ``before`` has turns of
    three parts: that, a call that is not timed, and the call that is. What is done before may leave the process cold, as when
    it gives memory back to the kernel, and in a training every step finds what the step before it has left.

    Args:
        actions: What is timed, by name.
        rounds: How often each is called and timed.
        warmup: How often each is called before, which does not count.
        clock: Says the time, in seconds. PyTorch's waits for a GPU before it does.
        before: By an action's name, what puts the process into the state that it needs; not timed.
        min_rounds: How few rounds will do, where a call takes minutes.

    Raises:
        ConfigError: There are fewer rounds than that; a median and quartiles need :data:`MIN_ROUNDS`.

    Example:
        >>> timings = time_alternately({'small': lambda: torch.ones(10).sum(), 'large': lambda: torch.ones(10**6).sum()})
        >>> len(timings['small'].seconds)
        5
    """
    check_rounds(rounds, min_rounds)
    before = before or {}
    names = list(actions)
    firsts: dict[str, float] = {}
    for _ in range(warmup):
        for name in names:
            before.get(name, _nothing)()
            started = clock()
            actions[name]()
            firsts.setdefault(name, clock() - started)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with _garbage_of_calls_only():
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                if name in before:
                    before[name]()
                    actions[name]()
                with _no_garbage_collection():
                    started = clock()
                    actions[name]()
                    seconds[name].append(clock() - started)
    return {name: Timing(tuple(seconds[name]), firsts.get(name)) for name in names}


def check_rounds(rounds: int, least: int = MIN_ROUNDS) -> None:
    """Raises a ConfigError if there are fewer rounds than ``least``."""
    if rounds < least:
        raise ConfigError(f'a measurement needs at least {least} rounds, got {rounds}')


def _nothing() -> None:
    pass


@contextmanager
def _garbage_of_calls_only() -> Iterator[None]:
    """Within it, garbage is looked for among new objects only; looking through all of PyTorch's takes longer than a call."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# ----------------------------------------------------------------------------------------------------------------- memory


def peak_memory(action: Action, device: torch.device | str = 'cpu', warmup: int = 1, repeats: int = 3) -> float | None:
    """The memory that a call needs at its peak, beyond what is there before it, in MB of 2^20 bytes.

    Args:
        action: What is measured.
        device: Whose memory.
        warmup: Calls before, for what is made once and stays: the optimizer's state, the kernels.
        repeats: Calls that are measured; their median counts.

    Returns:
        None where the system does not tell, which only Linux does for CPUs.
    """
    device = torch.device(device)
    measure = _allocated_peak if device.type == 'cuda' else _resident_peak
    for _ in range(warmup):
        action()
    with _garbage_of_calls_only():
        peaks = [measure(action, device) for _ in range(repeats)]
    return None if None in peaks else statistics.median(peaks)


def _allocated_peak(action: Action, device: torch.device) -> float:
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    action()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MB


def _resident_peak(action: Action, device: torch.device) -> float | None:
    gc.collect()
    with _heap_without_memory():
        try:
            Path('/proc/self/clear_refs').write_text('5')  # sets the peak back to what is resident now
            before = _process_memory('VmRSS')
        except OSError:
            return None
        action()
        return _process_memory('VmHWM') - before


def _process_memory(key: str) -> float:
    """A line of the kernel's report on this process, in MB."""
    return int(re.search(rf'{key}:\s+(\d+) kB', Path('/proc/self/status').read_text()).group(1)) * 1024 / MB


@contextmanager
def _heap_without_memory() -> Iterator[None]:
    """Within it, blocks of :data:`LARGE` come from the kernel and go back to it; no effect where the heap is not glibc's.

    Afterwards the process gives back what it frees, see :func:`~mmsagan.utils.memory.return_freed_memory`.
    """
    library = glibc()
    if library is None:
        yield
        return
    return_freed_memory()
    library.mallopt(MMAP_THRESHOLD, LARGE)
    gaps = list(_fill_gaps(library))
    library.malloc_trim(0)
    try:
        yield
    finally:
        for block in gaps:
            library.free(block)
        return_freed_memory()


def _fill_gaps(library: ctypes.CDLL) -> Iterator[int]:
    """Takes the large blocks that lie free in the heap, which would come before the kernel's; their memory is not touched."""
    size, room = 64 * MB, _process_memory('VmSize') * MB
    # There cannot be more of them than the process occupies; where blocks never come from the kernel, this would not end.
    while size >= LARGE and room > 0:
        block = library.malloc(size)
        if block and not ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value & _IS_KERNELS:
            room -= size
            yield block
        else:
            library.free(block)
            size //= 2
