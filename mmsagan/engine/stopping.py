"""Stopping a training when the system or the user asks for it, without losing anything."""

import os
import signal
import threading
import time

import rich
import torch
from mmengine.dist import all_reduce, get_world_size

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_SIGNAL = 1.0  # seconds
_LIVE_LINES = 3  # two of the training, and one while it is evaluated


class StopSignals:
    """Within it, a first SIGTERM or SIGINT is noted, so that the iteration can be finished; a second one ends the process.

    SLURM sends the one before it takes a job's machine away, Ctrl-C is the other. What comes within a second is the same one:
    torchrun hands on what the system has sent to all processes as well. Only a program's main thread gets signals: entered in
    another thread, it does nothing.
    """

    def __init__(self):
        self.received: str | None = None  # name of the signal
        self._since = 0.0
        self._previous: dict = {}

    def __enter__(self) -> 'StopSignals':
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # not Python's own
                signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame) -> None:
        if self.received is not None and time.monotonic() < self._since + SAME_SIGNAL:
            return
        if self.received is not None:
            rich.get_console().show_cursor()  # a progress bar may have hidden it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received, self._since = signal.Signals(number).name, time.monotonic()
        # Not through the logger, in the middle of whose work the signal may have come.
        message = f'\n{self.received}: finishing the iteration and saving; once more ends the training at once\n'
        # A live display is drawn anew over the last lines of a terminal.
        os.write(2, (message + ('\n' * _LIVE_LINES if os.isatty(2) else '')).encode())

    def agreed(self) -> bool:
        """Whether any process has got a signal; all processes have to ask together, and get the same answer."""
        if get_world_size() == 1:
            return self.received is not None
        flag = torch.tensor(float(self.received is not None))
        all_reduce(flag, 'max')
        return bool(flag)
