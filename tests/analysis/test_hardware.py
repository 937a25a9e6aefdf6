import itertools
import os
import platform
import re
from pathlib import Path

import pytest
import torch

from mmsagan.analysis import hardware
from mmsagan.analysis.hardware import describe_device, matmul_peak
from mmsagan.errors import ConfigError


@pytest.fixture
def clock(monkeypatch):
    """A clock by which the first matrix product takes 1 s, the next one 2 s, and so on."""
    now, seconds, product = [0.0], itertools.count(1), torch.mm

    def timed(*args, **kwargs):
        now[0] += next(seconds)
        return product(*args, **kwargs)

    monkeypatch.setattr(hardware.torch, 'mm', timed)
    return lambda: now[0]


def test_matmul_peak_is_the_best_of_all(clock):
    peak = matmul_peak(sizes=(10, 20), repeats=2, patience=100, clock=clock)
    # Size 10 takes 1 s, which does not count, then 2 and 3 s; size 20 takes 4 s, which does not count, then 5 and 6 s.
    assert (peak.size, peak.flops_per_second) == (20, 2 * 20**3 / 5)


def test_matmul_peak_may_be_that_of_a_small_size(clock):
    peak = matmul_peak(sizes=(20, 10), repeats=2, patience=100, clock=clock)
    assert (peak.size, peak.flops_per_second) == (20, 2 * 20**3 / 2)


def test_matmul_peak_tries_no_larger_size_than_there_is_time_for(clock):
    assert matmul_peak(sizes=(10, 20), repeats=2, patience=1, clock=clock).size == 10


@pytest.mark.parametrize('precision', hardware.PRECISIONS)
def test_matmul_peak_in_each_precision(precision):
    before = torch.get_float32_matmul_precision()
    peak = matmul_peak('cpu', precision, sizes=(16,), repeats=2)
    assert peak.flops_per_second > 0 and not peak.tf32 and peak.precision == precision
    assert torch.get_float32_matmul_precision() == before


def test_matmul_peak_notes_tf32():
    peak = hardware.MatmulPeak('cuda', 'fp32', True, 8192, 3.6e14)
    assert str(peak) == 'fp32 (TF32): 360,000 GFLOP/s, in products of 8192x8192 matrices'


def test_unknown_precision():
    with pytest.raises(ConfigError, match="one of fp32, bf16, got 'fp8'"):
        matmul_peak(precision='fp8')


def test_the_description_says_cpu_cores_threads_and_version():
    said = describe_device()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file() and (names := re.findall(r'model name\s*: (.*)', cpuinfo.read_text())):
        assert said.startswith(names[0])
    assert re.search(rf', {torch.get_num_threads()} threads? used', said)
    assert said.endswith(f'PyTorch {torch.__version__}')
    if hasattr(os, 'sched_getaffinity'):
        assert re.search(rf', {len(os.sched_getaffinity(0))} cores?, ', said)


def test_the_description_where_there_is_no_cpuinfo(monkeypatch):
    monkeypatch.setattr(hardware.Path, 'is_file', lambda path: False)
    assert describe_device().startswith(platform.processor() or platform.machine())
