"""Work in several processes: of a distributed run, or of a pool."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from mmsagan.errors import MMSAGANError

T = TypeVar('T')


def from_main_process(make: Callable[[], T]) -> T:
    """Calls ``make`` on rank 0, and returns its result on all ranks.

    Raises:
        MMSAGANError: ``make`` has raised it; on all ranks, because the others would wait forever.
    """
    box: list = [None, None]
    if is_main_process():
        try:
            box[0] = make()
        except MMSAGANError as error:
            box[1] = error
    broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


def available_cores() -> int:
    """Returns the number of cores that this process may use, which can be less than the machine has."""
    if hasattr(os, 'sched_getaffinity'):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def in_order(function: Callable, arguments: Iterable[tuple], workers: int) -> Iterator[Iterator]:
    """Calls a function in a pool of processes, which run ahead of the caller by a few results.

    Args:
        function: Function of a module, which other processes can import.
        arguments: Arguments of each call, consumed as needed.
        workers: Number of processes; with 1, the calls are made in this one.

    Yields:
        An iterator over the results, in the order of the arguments.

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
    # Not forked: a copy would inherit the locks of this process's threads, such as those of a progress bar.
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)

    def results() -> Iterator:
        pending: deque = deque()
        for each in arguments:
            pending.append(pool.submit(function, *each))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a worker, ignores Ctrl-C, and watches for the end of the parent, which may be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
