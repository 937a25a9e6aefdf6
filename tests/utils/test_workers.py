import os
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from mmsagan.utils.processes import available_cores, in_order


def slow_at_first(number: int) -> tuple[int, int]:
    time.sleep(0.3 if number == 0 else 0)
    return number, os.getpid()


def die(number: int) -> None:
    os._exit(3)


@pytest.mark.parametrize('workers', [1, 2])
def test_results_come_in_order_and_arguments_are_taken_as_needed(workers):
    taken = []

    def arguments():
        for number in range(40):
            taken.append(number)
            yield (number,)

    with in_order(slow_at_first, arguments(), workers) as results:
        first = next(results)
        assert first[0] == 0 and len(taken) <= 2 * workers + 1, 'no more are waiting than some for each process'
        rest = list(results)
    assert [number for number, _ in rest] == list(range(1, 40))
    pids = {pid for _, pid in [first, *rest]}
    assert (pids == {os.getpid()}) == (workers == 1)


def test_a_process_that_dies():
    with pytest.raises(BrokenProcessPool), in_order(die, [(1,), (2,)], 2) as results:
        list(results)


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='the system cannot keep a process to some cores')
def test_cores_that_this_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cores() == len(before)
