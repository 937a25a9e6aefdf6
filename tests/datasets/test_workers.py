"""Loader processes at the end of the program."""

import subprocess
import sys

import pytest

SCRIPT = """
from torch.utils.data import DataLoader
from mmsagan.datasets.workers import init_loader_process
images = iter(DataLoader(range(100), num_workers=2, worker_init_fn=init_loader_process))
next(images)
raise ValueError
"""


@pytest.mark.slow
def test_a_program_ends_although_its_loader_processes_live():
    """They leave the one signal that multiprocessing sends to the main process."""
    result = subprocess.run([sys.executable, '-c', SCRIPT], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and 'ValueError' in result.stderr
