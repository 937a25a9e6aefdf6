"""What goes wrong on one of several processes; imported by the configs of test_failures.py, and itself a tool that fails.

Usage: torchrun --nproc-per-node N failing.py WHEN RANK HOW [OTHERS]

WHEN is 'before' or 'after' the processes have joined, HOW what goes wrong on process RANK. The others wait for it in a
collective, or do OTHERS.
"""

import os
import signal
import sys
import time

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook

from mmsagan.apis.processes import join_processes, watch_processes
from mmsagan.cli.tool import run_tool
from mmsagan.errors import DataError
from mmsagan.registry import HOOKS


def fail(how: str | None) -> None:
    if how == 'raise':
        raise RuntimeError('a bug')
    if how == 'user error':
        raise DataError('no data')
    if how == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if how == 'hang':
        time.sleep(300)


def say_when() -> None:
    os.write(2, f'\nfailing at {time.time()}\n'.encode())


@HOOKS.register_module()
class FailingHook(Hook):
    """Fails in the second iteration, on one process; the others wait for it."""

    def __init__(self, how: str, rank: int):
        self.how, self.rank = how, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1 and get_rank() == self.rank:
            say_when()
            fail(self.how)


def main() -> None:
    when, rank, how, *others = sys.argv[1:]
    watch_processes('pytorch')
    is_failing = os.environ['RANK'] == rank
    if is_failing and when == 'before':
        say_when()
        fail(how)
    join_processes('pytorch', dict(env_cfg=dict(dist_cfg=dict(timeout=float(os.environ.get('TIMEOUT', 1800))))))
    all_reduce(torch.zeros(1))
    if is_failing:
        say_when()
        fail(how)
    fail(*others or [None])
    all_reduce(torch.zeros(1))
    if is_failing and how == 'be late':
        time.sleep(2)


if __name__ == '__main__':
    run_tool(main)
