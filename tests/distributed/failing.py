"""What goes wrong on one of several processes; imported by the configs of test_failures.py, and itself a tool that fails.

Usage: torchrun --nproc-per-node N failing.py RANK HOW

HOW is what goes wrong on process RANK; the others are far from any collective.
"""

import os
import signal
import sys
import time

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook

from mmsagan.cli.tool import run_tool
from mmsagan.engine.distributed import join_processes
from mmsagan.errors import DataError
from mmsagan.registry import HOOKS


def fail(how: str) -> None:
    os.write(2, f'\nfailing at {time.time()}\n'.encode())
    if how == 'raise':
        raise RuntimeError('a bug')
    if how == 'user error':
        raise DataError('no data')
    os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class FailingHook(Hook):
    """Fails in the second iteration, on one process; the others wait for it."""

    def __init__(self, how: str, rank: int):
        self.how, self.rank = how, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1 and get_rank() == self.rank:
            fail(self.how)


def main() -> None:
    join_processes('pytorch', {})
    all_reduce(torch.zeros(1))
    if get_rank() == int(sys.argv[1]):
        fail(sys.argv[2])
    time.sleep(300)


if __name__ == '__main__':
    run_tool(main)
