"""Work in several processes: of a distributed run, or of a pool."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from mmsagan.errors import DataError, MMSAGANError

T = TypeVar('T')


def from_main_process(make: Callable[[], T]) -> T:
    """Calls ``make`` on rank 0, and returns its result, or raises its MMSAGANError, on all ranks."""
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


@contextmanager
def worker_map(workers: int) -> Iterator[Callable[..., Iterator]]:
    """A ``map`` that calls functions of modules in a pool of processes, and returns the results in order.

    With one worker, it is the builtin ``map``. Raises a DataError if a process dies or memory runs out.
    """
    # Not forked: a copy would inherit the locks of this process's threads, such as those of a progress bar.
    context = multiprocessing.get_context('spawn')
    try:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) if workers > 1 else None
    except OSError as error:
        remedy = 'enlarge /dev/shm (docker run --shm-size=8g), or set --workers 1'
        raise DataError(f'no processes can be started ({error}): {remedy}') from error
    try:
        yield pool.map if pool else map
    except BaseException as error:
        for process in list((pool and pool._processes or {}).values()):
            process.kill()  # one that hangs would hold up the error
        if isinstance(error, (BrokenProcessPool, MemoryError)):
            raise DataError('a process has died, perhaps of a lack of memory; try again with fewer --workers') from error
        raise
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """In a worker process, ignores Ctrl-C, and ends the process when its parent ends, which may be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
