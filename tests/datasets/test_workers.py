"""Loader processes at the end of the program and without shared memory."""

import subprocess
import sys

import pytest
import torch

from mmsagan.datasets.samplers import SeededDataset
from mmsagan.errors import DataError

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


def test_no_shared_memory_at_all(monkeypatch):
    def fail(tensor):
        raise RuntimeError('unable to open shared memory object </torch_1_2_0>: No space left on device (28)')

    monkeypatch.setattr(torch.Tensor, 'share_memory_', fail)
    with pytest.raises(DataError, match='/dev/shm.*--shm-size.*num_workers=0'):
        SeededDataset([1, 2], num_workers=2)
    assert len(SeededDataset([1, 2], num_workers=0)) == 2
