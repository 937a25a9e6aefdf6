import subprocess
import sys

import pytest

from mmsagan.utils import memory
from mmsagan.utils.memory import glibc, keep_freed_memory, return_freed_memory

# Page faults of making and freeing a block of 256 MB ten times, of which each touches every page.
COUNT_FAULTS = """
import resource, sys, numpy
from mmsagan.utils import memory
for name in sys.argv[1:]:
    assert getattr(memory, name)()
numpy.ones(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    numpy.ones(2**25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*calls: str) -> int:
    return int(subprocess.run([sys.executable, '-c', COUNT_FAULTS, *calls], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(glibc() is None, reason='not glibc, or a malloc is preloaded')
def test_kept_memory_is_not_asked_for_again():
    # At least one page in 2 MB is touched anew each time, also where the kernel hands out huge pages.
    assert faults() > 10 * 128
    assert faults('keep_freed_memory') < 128
    assert faults('keep_freed_memory', 'return_freed_memory') > 10 * 128


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory, 'glibc', lambda: None)
    assert keep_freed_memory() is False and return_freed_memory() is False
