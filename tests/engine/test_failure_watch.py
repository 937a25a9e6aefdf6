"""The watch over a run's processes, here several in one process."""

import json
import os
import socket
import threading
import time

import pytest
from torch.distributed import DistBackendError, TCPStore

from mmsagan.engine import failures
from mmsagan.engine.failures import FailureWatch, guess_at, is_lost_connection, start_watch
from mmsagan.errors import ConfigError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (('_INTERVAL', 0.05), ('_GRACE', 0.1), ('_WAIT_FOR_WORD', 1), ('_WAIT_FOR_STORE', 0.5)):
        monkeypatch.setattr(failures, name, seconds)
    monkeypatch.setattr(failures, '_tidy_up', lambda: None)
    monkeypatch.delenv('TORCHELASTIC_ERROR_FILE', raising=False)


class Run:
    """Watches of some processes, whose ends are noted as (rank, exit code), with a store of their own or rank 0's."""

    def __init__(self, world_size: int, hosted: bool = False):
        self.ends: list[tuple[int, int]] = []
        self.store = None if hosted else TCPStore('127.0.0.1', 0, None, True, wait_for_workers=False)
        self.port = free_port() if hosted else self.store.port
        self.watches = [
            FailureWatch(
                rank,
                world_size,
                '127.0.0.1',
                self.port,
                is_host=hosted and rank == 0,
                exit=lambda code, rank=rank: self.ends.append((rank, code)),
            )
            for rank in range(world_size)
        ]
        assert all(watch._is_connected.wait(5) for watch in self.watches)

    def call(self, rank: int, function: str, *args, **kwargs) -> threading.Thread:
        """In a thread, as it may wait for the other processes."""
        thread = threading.Thread(target=getattr(self.watches[rank], function), args=args, kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    def wait_for_ends(self, count: int) -> list[tuple[int, int]]:
        limit = time.monotonic() + 10
        while len(self.ends) < count and time.monotonic() < limit:
            time.sleep(0.02)
        return self.ends


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


@pytest.fixture
def run_of():
    """Makes a run, whose threads end with the test: run_of(world_size, hosted=False)."""
    runs = []

    def make(world_size: int, hosted: bool = False) -> Run:
        runs.append(Run(world_size, hosted))
        return runs[-1]

    yield make
    for watch in [watch for run in runs for watch in run.watches]:
        watch._stop.set()
        if watch._leaving.locked():
            watch._leaving.release()  # for whom a real process's end would have been its own
        watch._thread.join(10)
        assert not watch._thread.is_alive()


@pytest.mark.parametrize('hosted', [False, True])
def test_all_end_with_the_failed_ones_code_and_it_last(run_of, capfd, hosted):
    run = run_of(3, hosted)
    run.call(1, 'fail', 'error: no data', 'error: no data', 2)
    ends = run.wait_for_ends(3)
    assert sorted(ends) == [(0, 2), (1, 2), (2, 2)]
    if not hosted:
        assert ends[-1] == (1, 2)
    assert sorted(capfd.readouterr().err.splitlines()) == [
        'error: no data',
        'rank 0 ends since rank 1 has failed (see its message)',
        'rank 2 ends since rank 1 has failed (see its message)',
    ]


def test_the_same_mistake_is_reported_once(run_of, capfd, monkeypatch):
    monkeypatch.setattr(failures, '_GRACE', 5)  # time for both to come to it
    run = run_of(2)
    for rank in range(2):
        run.call(rank, 'fail', 'error: no data', 'error: no data', 2)
    assert sorted(run.wait_for_ends(2)) == [(0, 2), (1, 2)]
    assert capfd.readouterr().err == 'error: no data\n'


def test_of_a_second_failure_one_line_is_reported(run_of, capfd, monkeypatch):
    monkeypatch.setattr(failures, '_GRACE', 5)
    run = run_of(2)
    run.call(0, 'fail', 'a long report', 'KeyError: 1', 1)
    time.sleep(0.5)
    run.call(1, 'fail', 'another long report', 'ValueError: 2', 1)
    run.wait_for_ends(2)
    line = 'rank 1 ends since rank 0 has failed (see its message); itself: ValueError: 2'
    assert capfd.readouterr().err == f'a long report\n{line}\n'


def test_who_has_lost_a_connection_waits_for_word_of_the_reason(run_of, capfd, monkeypatch):
    monkeypatch.setattr(failures, '_GRACE', 5)
    run = run_of(2)
    run.call(1, 'fail', 'a long report', 'RuntimeError: connection reset', 1, is_secondary=True)
    time.sleep(0.3)
    run.call(0, 'fail', 'error: no data', 'error: no data', 2)
    assert sorted(run.wait_for_ends(2)) == [(0, 2), (1, 1)]
    assert capfd.readouterr().err == 'error: no data\nrank 1 ends since rank 0 has failed (see its message)\n'


def test_who_has_lost_a_connection_and_gets_no_word_reports_it(run_of, capfd):
    run = run_of(2)
    start = time.monotonic()
    run.call(1, 'fail', 'a long report', 'RuntimeError: connection reset', 1, is_secondary=True)
    assert sorted(run.wait_for_ends(2)) == [(0, 1), (1, 1)] and time.monotonic() - start > 1
    assert capfd.readouterr().err.startswith('a long report\n')


def test_all_end_when_the_store_is_gone(run_of, capfd):
    run = run_of(2)
    run.store = None
    assert sorted(run.wait_for_ends(2)) == [(0, 1), (1, 1)]
    assert f'rank 0 ends since the run has: nothing answers at 127.0.0.1:{run.port}\n' in capfd.readouterr().err


def test_who_is_done_waits_for_the_others_and_no_longer_for_the_store(run_of, capfd):
    run = run_of(2, hosted=True)
    first = run.call(0, 'finish')
    first.join(0.5)
    assert first.is_alive(), 'the host leaves last'
    run.call(1, 'finish').join(5)
    first.join(5)
    assert not first.is_alive() and not run.ends and capfd.readouterr().err == ''
    run.watches[0].finish()  # again: returns at once


def test_who_is_done_ends_with_another_ones_failure(run_of):
    run = run_of(2)
    run.call(0, 'finish')
    run.call(1, 'fail', 'error: no data', 'error: no data', 2)
    assert sorted(run.wait_for_ends(2)) == [(0, 2), (1, 2)]


def test_torchrun_is_told_the_cause_and_that_it_came_first(run_of, tmp_path, monkeypatch):
    run = run_of(2)
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    told = []
    monkeypatch.setattr(json, 'dump', lambda content, file: told.append(content['message']))
    run.call(1, 'fail', 'a long report', 'ValueError: 2', 1)
    run.wait_for_ends(2)
    cause, consequence = sorted(told, key=lambda message: int(message['extraInfo']['timestamp']))
    assert cause['message'] == 'ValueError: 2 (see above for more)'
    assert consequence['message'] == 'rank 0 ends since rank 1 has failed (see its message)'


def start_with(monkeypatch, **environ) -> dict | None:
    """The arguments with which a process of that environment starts its watch."""
    started = []
    monkeypatch.setattr(failures, '_of_this_process', None)
    monkeypatch.setattr(failures, 'FailureWatch', lambda *args, **kwargs: started.append((args, kwargs)))
    for key in [key for key in os.environ if key.startswith('TORCHELASTIC')]:
        monkeypatch.delenv(key)
    for key, value in dict(dict(MASTER_ADDR='there', MASTER_PORT='29500'), **environ).items():
        monkeypatch.setenv(key, value)
    start_watch()
    return started[0] if started else None


def test_who_hosts_the_store(monkeypatch):
    where = ('there', 29500)
    assert start_with(monkeypatch, RANK='0', WORLD_SIZE='2') == ((0, 2, *where), dict(is_host=True, attempt='0'))
    assert start_with(monkeypatch, RANK='1', WORLD_SIZE='2') == ((1, 2, *where), dict(is_host=False, attempt='0'))
    torchrun = dict(TORCHELASTIC_USE_AGENT_STORE='True', TORCHELASTIC_RESTART_COUNT='3')
    assert start_with(monkeypatch, RANK='0', WORLD_SIZE='2', **torchrun) == ((0, 2, *where), dict(is_host=False, attempt='3'))


def test_a_process_alone_is_not_watched(monkeypatch):
    assert start_with(monkeypatch, RANK='0', WORLD_SIZE='1') is None


def test_a_port_that_is_taken():
    store = TCPStore('127.0.0.1', 0, None, True, wait_for_workers=False)
    with pytest.raises(ConfigError, match=f'port {store.port} of 127.0.0.1 cannot be used; choose another one by PORT'):
        FailureWatch(0, 2, '127.0.0.1', store.port, is_host=True)


def test_what_a_lost_connection_looks_like():
    closed = RuntimeError('[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer')
    late = RuntimeError('[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 6000ms for recv')
    assert is_lost_connection(closed) and guess_at(closed).startswith('another process seems to have died')
    assert is_lost_connection(late) and guess_at(late).startswith('another process has not answered in time')
    assert is_lost_connection(DistBackendError('NCCL error: remote process exited'))
    for error in (RuntimeError('shapes do not match'), ValueError('gloo/'), RuntimeError('gloo does not know float8')):
        assert not is_lost_connection(error)
