"""The processes of data loaders: how they begin and end, and what their errors mean."""

import atexit
import multiprocessing.queues
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from mmsagan.errors import DataError
from mmsagan.registry import FUNCTIONS

# A training saves and stops on these, as on SIGTERM and SIGINT. They often reach its loader processes, too.
GROUP_SIGNALS = ('SIGHUP', 'SIGUSR1', 'SIGUSR2')
TIMEOUT = 300  # seconds without a batch, after which a read is taken to hang
POLL = 5  # seconds after which PyTorch looks whether a process has died
_SHORTAGE = 100  # exit code of a process that cannot hand over its batch for a lack of shared memory or file descriptors
_PIN_MEMORY = 'Pin memory thread exited unexpectedly'  # as PyTorch says it
# In PyTorch's errors; the first is a file in shared memory.
_SHORTAGE_TEXT = re.compile(rf'</torch_\d|Too many open files|ancdata|{_PIN_MEMORY}')


@FUNCTIONS.register_module()
def init_loader_process(worker_id: int) -> None:
    """Leaves signals that are sent to all processes at once to the main process: all but a second SIGTERM."""

    def end(error: Exception, batch: Any) -> None:
        is_shortage = _SHORTAGE_TEXT.search(str(error))
        if not is_shortage:
            traceback.print_exception(error)
        os._exit(_SHORTAGE if is_shortage else 1)

    for name in ('SIGINT', *GROUP_SIGNALS):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
    # If a batch cannot be handed over, Python drops it, and the main process would wait for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


@atexit.register
def _end_all() -> None:
    """Ends what loaders have left over: multiprocessing would send one SIGTERM, and then wait for ever."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise errors
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def stop_workers(iterator: Any) -> None:
    """Ends the processes of a data loader's iterator, within seconds even if one of them hangs.

    Without this, the interpreter waits for them for ever if an exception refers to the iterator.
    """
    workers = getattr(iterator, '_workers', ())
    if workers and not iterator._shutdown and not sys.is_finalizing():
        signal_handling._remove_worker_pids(id(iterator))  # else their end would raise an error in this process
        iterator._worker_pids_set = False
        killer = threading.Timer(2, lambda: [worker.kill() for worker in workers])
        killer.start()
        iterator._shutdown_workers()
        killer.cancel()
        for worker in workers:  # those that PyTorch has given up
            worker.kill()
            worker.join(5)


def next_batch(iterator: Any, timeout: float, key: str) -> Any:
    """Returns the next batch; raises a DataError that names an image if none has come for ``timeout`` seconds.

    The loader's own timeout must be :data:`POLL`: while it waits for a batch, PyTorch may not notice that a process has died.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            return next(iterator)
        except RuntimeError as error:
            if 'DataLoader timed out' not in str(error):
                raise
            thread = getattr(iterator, '_pin_memory_thread', None)  # of loaders for a GPU; it has printed what it died of
            if thread is not None and not thread.is_alive():
                raise RuntimeError(_PIN_MEMORY) from error
            if time.monotonic() >= end:
                image = iterator._dataset.describe_last_read(iterator._task_info[iterator._rcvd_idx][0])
                reason = f'its disk does not answer, or is too slow for {key}'
                raise DataError(f'no images for {timeout:g} seconds: a process is reading {image}; {reason}') from error


def loader_error(iterator: Any, error: Exception, key: str) -> DataError | None:
    """Returns an error that says what has happened to a data loader's processes; None if it is about something else.

    ``iterator`` is None if it could not be made; ``key`` is the config key or name of the number of processes.
    """
    workers = getattr(iterator, '_workers', ())
    if isinstance(error, (EOFError, ConnectionError)):  # of a process that has died while it sent a batch, and may be dying
        end = time.monotonic() + 5
        with suppress(RuntimeError):  # PyTorch's signal handler raises it wherever the process is
            while workers and time.monotonic() < end and not any(worker.exitcode for worker in workers):
                time.sleep(0.05)
    codes = [worker.exitcode or 0 for worker in workers]
    bus_errors = [worker for worker, code in enumerate(codes) if code == -signal.SIGBUS]
    cannot_begin = iterator is None and isinstance(error, OSError)
    if cannot_begin or bus_errors or _SHORTAGE in codes or _SHORTAGE_TEXT.search(str(error)):
        # Bus errors come from memory that a file should fill: in /dev/shm, or of a packed data set.
        cut_off = [f'. Or the file of {iterator._dataset.describe_last_read(worker)} was cut off' for worker in bus_errors[:1]]
        remedy = f'enlarge /dev/shm (docker run --shm-size=8g), raise ulimit -n, or lower {key}; {key}=0 needs neither'
        return DataError(f'data loader processes have run out of shared memory or of open files: {remedy}{"".join(cut_off)}')
    for worker, code in enumerate(codes):
        if code:
            cause = f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
            image = iterator._dataset.describe_last_read(worker)
            return DataError(f'a data loader worker died ({cause}) while reading {image}, or of a lack of memory: lower {key}')
    return None


def read_batches(loader: DataLoader, key: str) -> Generator:
    """Yields the batches of a data loader, see :func:`next_batch` and :func:`loader_error`, and ends its processes."""
    loader.timeout, iterator = POLL if loader.num_workers else 0, None
    try:
        iterator = iter(loader)
        for _ in range(len(loader)):
            yield next_batch(iterator, TIMEOUT, key)
    except (RuntimeError, EOFError, OSError) as error:
        if explained := loader_error(iterator, error, key):
            raise explained from error
        raise
    finally:
        stop_workers(iterator)
