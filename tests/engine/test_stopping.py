"""Signals in this process; what becomes of a training is in tests/robustness/test_interruptions.py."""

import signal
import threading

import pytest

from mmsagan.engine.stopping import SIGNALS, StopSignals
from mmsagan.engine.training_batches import init_loader_process


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_is_noted_within_the_block_only(handlers, number, capfd):
    with StopSignals() as signals:
        assert not signals.agreed()
        signal.raise_signal(number)
        assert signals.agreed() and signals.received == number.name
    assert 'once more ends the training at once' in capfd.readouterr().err
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_another_thread_leaves_the_handlers_alone(handlers):
    found = []

    def enter():
        with StopSignals() as signals:
            found.append(({number: signal.getsignal(number) for number in SIGNALS}, signals.agreed()))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(handlers, False)]


def test_loader_processes_leave_signals_to_the_main_one(handlers):
    """Sent to all of them at once, as terminals do, the first one changes nothing; the main process ends them itself."""
    init_loader_process(0)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
