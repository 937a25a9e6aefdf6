"""One process of several fails: all end, within seconds, with that process's message and nobody else's.

The others may be waiting for the failed one in a collective, or be far from any: evaluating, or waiting for data. So each
process has a thread that looks once a second into the job's key-value store, which torchrun hosts, or else rank 0, over a
connection of its own. A process that fails writes so there, and leaves after the others: as long as it lives, their
connections to it do, and they have no errors of their own to report.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import rich
from mmengine.dist import is_distributed
from torch.distributed import DistError, TCPStore

from mmsagan.errors import ConfigError

_INTERVAL = 1.0  # between two looks at the store
_GRACE = 1.0  # for a process's main thread to end by itself, and tidy up, after another one has failed
_WAIT_FOR_WORD = 2.0  # for word of a failure, when a connection is lost
_WAIT_FOR_OTHERS = 4.0  # for the others to have left, before the failed process does
_WAIT_FOR_DONE = 1800.0  # for the others to be done, after work that is
_WAIT_FOR_STORE = 5.0  # for a store that does not answer


@dataclass(frozen=True)
class Failure:
    """What a process that fails tells the others: its rank, its exit code, and what has happened in one line."""

    rank: int
    code: int
    summary: str


class FailureWatch:
    """Watches over the processes of a run, and ends this one when another one has failed.

    Args:
        rank: Of this process.
        world_size: Number of processes.
        address: Host of the store.
        port: Of the store.
        is_host: Whether this process is the one that hosts the store, which then leaves last.
        attempt: How often the processes have been started anew; a failure is one of its attempt.
        exit: How a process ends at once.

    Raises:
        ConfigError: The store cannot be hosted.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        address: str,
        port: int,
        is_host: bool = False,
        attempt: str = '0',
        exit: Callable[[int], None] = os._exit,
    ):
        self.rank = rank
        self._world_size = world_size
        self._address, self._port = address, port
        self._is_host = is_host
        self._failure_key, self._ended_key = f'mmsagan/{attempt}/failure', f'mmsagan/{attempt}/ended'
        self._exit = exit
        self._store: TCPStore | None = None
        self._is_connected, self._stop = threading.Event(), threading.Event()
        self._is_done = False
        self._leaving = threading.Lock()
        if is_host:
            self._store = self._host_store()
        self._thread = threading.Thread(target=self._watch, name='failure watch', daemon=True)
        self._thread.start()

    def fail(self, report: str, summary: str, code: int, is_secondary: bool = False) -> None:
        """Announces that this process has failed, and ends it.

        Only the first failure of a run is reported: what follows may follow from it.

        Args:
            report: What to print.
            summary: The same in one line; when several processes say the same, one of them prints it.
            code: To exit with.
            is_secondary: Whether the reason may well be another process's failure.
        """
        self._leaving.acquire()  # for good: if the watch ends this process right now, this thread waits here for it
        try:
            if threading.current_thread() is threading.main_thread():
                # The launcher's, about processes that have ended before this one: it does so itself, in seconds.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if is_secondary:
                self._wait_for(lambda: self._other_failure() is not None, _WAIT_FOR_WORD)
            first = self._announce(Failure(self.rank, code, summary))
            if first.rank == self.rank:
                _write(report)
                _tell_torchrun(f'{summary} (see above for more)', is_cause=True)
            else:
                line = _because_of(first, self.rank) + ('' if is_secondary else f'; itself: {summary}')
                _tell_torchrun(line)
                if first.summary != summary:
                    _write(line)
            self._count_out(wait=first.rank == self.rank or self._is_host)
        finally:
            _tidy_up()
            self._exit(code)

    def finish(self) -> None:
        """Ends the watch after work that is done, when all processes have done theirs or one of them fails."""
        if self._stop.is_set():
            return
        self._is_done = True
        self._count_out(wait=True, limit=_WAIT_FOR_DONE)
        failure = self._other_failure()
        if failure is not None:  # the last to be counted may have failed just now, before the watch has looked
            self._end(_because_of(failure, self.rank), failure.code)
            return
        self._stop.set()
        self._thread.join(timeout=_WAIT_FOR_STORE)

    def _watch(self) -> None:
        is_answered = self._store is not None or self._connect()
        if is_answered:
            self._is_connected.set()
        while not self._stop.wait(_INTERVAL):
            is_answered = is_answered and self._is_answered()
            if not is_answered:
                self._is_connected.clear()
                if not self._is_done:
                    self._end(f'rank {self.rank} ends since the run has: nothing answers at {self._address}:{self._port}', 1)
                return
            failure = self._other_failure()
            if failure is not None:
                self._stop.wait(_GRACE)
                self._end(_because_of(failure, self.rank), failure.code)
                return

    def _end(self, line: str, code: int) -> None:
        self._leaving.acquire()
        try:
            _write(line)
            _tell_torchrun(line)
            self._count_out(wait=self._is_host)
        finally:
            _tidy_up()
            self._exit(code)

    def _host_store(self) -> TCPStore:
        try:
            # Multi-tenant: the process group's own store will be the same one.
            return TCPStore(self._address, self._port, None, True, wait_for_workers=False, multi_tenant=True)
        except DistError as error:
            raise ConfigError(
                f'port {self._port} of {self._address} cannot be used; choose another one by PORT in the environment: '
                + str(error).splitlines()[0]
            ) from error

    def _connect(self) -> bool:
        """Connects to the store; before the processes have joined it may not be there yet, afterwards it has to answer."""
        last = None
        while not self._stop.is_set() and (last is None or time.monotonic() < last):
            try:
                # PyTorch's own attempts could not be stopped, and are noisy.
                socket.create_connection((self._address, self._port), timeout=_WAIT_FOR_STORE).close()
                self._store = TCPStore(self._address, self._port, None, False, wait_for_workers=False)
                return True
            except (OSError, DistError):
                self._stop.wait(0.2)
            if last is None and (self._is_connected.is_set() or is_distributed()):
                last = time.monotonic() + _WAIT_FOR_STORE
        return False

    def _is_answered(self) -> bool:
        """Whether there is a store; a connection may break for a moment."""
        try:
            self._store.check([self._failure_key])
        except DistError:
            return not self._is_done and not self._is_host and self._connect()
        return True

    def _other_failure(self) -> Failure | None:
        """Another process's failure, if one is announced."""
        try:
            if self._store is None or not self._store.check([self._failure_key]):
                return None
            failure = Failure(**json.loads(self._store.get(self._failure_key)))
        except DistError:
            return None
        return failure if failure.rank != self.rank else None

    def _announce(self, failure: Failure) -> Failure:
        """Announces a failure; gives the run's first one, which may be another process's."""
        if not self._is_connected.wait(_WAIT_FOR_WORD):
            return failure
        try:
            return Failure(**json.loads(self._store.compare_set(self._failure_key, '', json.dumps(asdict(failure)))))
        except DistError:
            return failure

    def _count_out(self, wait: bool, limit: float = _WAIT_FOR_OTHERS) -> None:
        """Counts this process as one that leaves, and waits for all to be so counted."""
        if not self._is_connected.is_set():
            return
        try:
            self._store.add(self._ended_key, 1)
            if wait:
                self._wait_for(lambda: self._store.add(self._ended_key, 0) >= self._world_size, limit)
                if self._is_host:
                    time.sleep(0.5)  # for the others to have seen so, too
        except DistError:
            pass  # the host has left, hence all have been counted

    def _wait_for(self, condition: Callable[[], bool], limit: float) -> None:
        start = time.monotonic()
        while not condition() and time.monotonic() - start < limit:
            time.sleep(0.1)


_of_this_process: FailureWatch | None = None


def start_watch() -> None:
    """Starts this process's watch, if it is one of several and has none; the environment says who and where they are."""
    global _of_this_process
    environ = os.environ
    if _of_this_process is not None or int(environ['WORLD_SIZE']) < 2:
        return
    rank = int(environ['RANK'])
    _of_this_process = FailureWatch(
        rank,
        int(environ['WORLD_SIZE']),
        environ['MASTER_ADDR'],
        int(environ['MASTER_PORT']),
        is_host=rank == 0 and environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True',
        attempt=environ.get('TORCHELASTIC_RESTART_COUNT', '0'),
    )


def current_watch() -> FailureWatch | None:
    """This process's watch; None if it works alone."""
    return _of_this_process


def is_lost_connection(error: BaseException) -> bool:
    """Whether an exception is of the kind that a process has when another one has gone or does not answer."""
    # Gloo's errors have no class of their own, but name the file they come from.
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and 'gloo/' in str(error))


def guess_at(error: BaseException) -> str:
    """What a lost connection may mean to the user."""
    if 'timed out' in str(error).lower() or 'timeout' in str(error).lower():
        return (
            'another process has not answered in time: it hangs, or needs longer than the env_cfg.dist_cfg.timeout (seconds) '
            'of the config allows'
        )
    return 'another process seems to have died without a message: killed, perhaps for want of memory, or its machine is gone'


def _because_of(failure: Failure, rank: int) -> str:
    return f'rank {rank} ends since rank {failure.rank} has failed (see its message)'


def _write(text: str) -> None:
    """Writes to stderr at once, and past the bars that may be on the terminal."""
    sys.__stderr__.write(text.rstrip('\n') + '\n')
    sys.__stderr__.flush()


def _tell_torchrun(message: str, is_cause: bool = False) -> None:
    """Has torchrun's report say why this process has ended. The format is that of torch.distributed.elastic's ErrorHandler."""
    path = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if path:
        second = int(time.time()) + (not is_cause)  # torchrun takes the earliest of the messages for the cause
        with open(path, 'w') as file:
            json.dump(dict(message=dict(message=message, extraInfo=dict(py_callstack=message, timestamp=str(second)))), file)


def _tidy_up() -> None:
    """What has to be done before a process ends at once: nothing else is."""
    for child in multiprocessing.active_children():
        child.kill()  # data loaders' processes would notice by themselves only seconds later
    rich.get_console().show_cursor()
    sys.stdout.flush()
