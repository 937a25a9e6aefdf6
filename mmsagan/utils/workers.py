"""Work shared out among processes."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


def available_cores() -> int:
    """How many cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, 'sched_getaffinity'):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def in_order(function: Callable, arguments: Iterable[tuple], workers: int) -> Iterator[Iterator]:
    """Calls a function in several processes, which work ahead of the reader by a few results.

    Args:
        function: Of a module, so that other processes find it.
        arguments: Of each call; taken as they are needed.
        workers: How many processes; 1 is this one.

    Yields:
        An iterator over the results, in the arguments' order.

    Raises:
        BrokenProcessPool: A process has died.

    Example:
        >>> with in_order(pow, [(2, 3), (3, 2)], workers=1) as results:
        ...     list(results)
        [8, 9]
    """
    if workers == 1:
        yield (function(*each) for each in arguments)
        return
    # Not forked: this process may have threads, such as a progress bar's, whose locks a copy would inherit.
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        yield _ahead(pool, function, arguments, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(pool: ProcessPoolExecutor, function: Callable, arguments: Iterable[tuple], count: int) -> Iterator:
    waiting: deque = deque()
    for each in arguments:
        waiting.append(pool.submit(function, *each))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _follow_parent() -> None:
    """In a worker: leaves Ctrl-C to the parent, and ends with it even if it is killed and cannot say so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
