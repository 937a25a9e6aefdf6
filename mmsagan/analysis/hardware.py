"""What a machine is, and what it can do at best."""

import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils import benchmark

from mmsagan.errors import ConfigError
from mmsagan.utils.processes import available_cores

GIB = 2**30
# By the names that the command line uses.
PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16}
LEAST_SECONDS, MAX_REPEATS = 0.5, 1000
SIZES = {'cpu': (256, 512, 1024, 2048), 'cuda': (2048, 4096, 8192)}


@dataclass(frozen=True)
class MatmulPeak:
    """The most FLOPs a second that a device has reached in a product of two square matrices.

    Args:
        device: Its kind, ``'cpu'`` or ``'cuda'``.
        precision: A name from :data:`PRECISIONS`.
        tf32: Whether a GPU may have rounded the factors to TF32.
        size: Rows of the matrices that it was reached with.
        flops_per_second: 2 a multiply-add.
    """

    device: str
    precision: str
    tf32: bool
    size: int
    flops_per_second: float

    def __str__(self) -> str:
        precision = self.precision + (' (TF32)' if self.tf32 else '')
        return f'{precision}: {self.flops_per_second / 1e9:,.0f} GFLOP/s, in products of {self.size}x{self.size} matrices'


def matmul_peak(
    device: torch.device | str = 'cpu',
    precision: str = 'fp32',
    tf32: bool | None = None,
    sizes: Sequence[int] | None = None,
    repeats: int = 10,
    patience: float = 2.0,
    clock: Callable[[], float] = benchmark.timer,
) -> MatmulPeak:
    """Measures the best rate of matrix products: several sizes, several products of each, the fastest counts.

    On a CPU it is the rate of the threads that PyTorch is set to.

    Args:
        device: Where.
        precision: A name from :data:`PRECISIONS`.
        tf32: Whether a GPU may round float32 factors to TF32; None: what convolutions may, since they do most of a GAN's work.
        sizes: Rows of the matrices; None: what suits the device.
        repeats: Products of each size at the least, after one that does not count.
        patience: Seconds; after a product that takes longer, as where bfloat16 is emulated, no larger size is tried.
        clock: Says the time, in seconds. PyTorch's waits for a GPU before it does.

    Raises:
        ConfigError: There is no such precision.
    """
    device = torch.device(device)
    if precision not in PRECISIONS:
        raise ConfigError(f'precision must be one of {", ".join(PRECISIONS)}, got {precision!r}')
    may_round = device.type == 'cuda' and precision == 'fp32'
    tf32 = may_round and (torch.backends.cudnn.allow_tf32 if tf32 is None else tf32)
    best = (0.0, 0)
    with _matmul_precision('high' if tf32 else 'highest'):
        for size in sizes or SIZES.get(device.type, SIZES['cpu']):
            seconds = _fastest_product(size, PRECISIONS[precision], device, repeats, clock)
            best = max(best, (2 * size**3 / seconds, size))
            if seconds > patience:
                break
    return MatmulPeak(device.type, precision, tf32, size=best[1], flops_per_second=best[0])


def _fastest_product(size: int, dtype: torch.dtype, device: torch.device, repeats: int, clock: Callable[[], float]) -> float:
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    started = clock()
    out = torch.mm(first, second)
    once = max(clock() - started, 1e-6)
    seconds = []
    # Small products are over in a moment that may be a bad one.
    for _ in range(max(repeats, min(MAX_REPEATS, int(LEAST_SECONDS / once)))):
        started = clock()
        torch.mm(first, second, out=out)
        seconds.append(clock() - started)
    return min(seconds)


@contextmanager
def _matmul_precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def describe_device(device: torch.device | str = 'cpu') -> str:
    """A line that says what a measurement was made on: the device, what of it was used, and PyTorch's version."""
    device = torch.device(device)
    describe = _describe_gpu if device.type == 'cuda' else _describe_cpu
    return f'{describe(device)}, PyTorch {torch.__version__}'


def _describe_gpu(device: torch.device) -> str:
    properties = torch.cuda.get_device_properties(device)
    return f'{properties.name}, {properties.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}'


def _describe_cpu(device: torch.device) -> str:
    threads = torch.get_num_threads()
    parts = [
        _cpu_name(),
        torch.backends.cpu.get_cpu_capability(),
        _count(available_cores(), 'core'),
        f'{_count(threads, "thread")} used',
    ]
    if 'SC_PHYS_PAGES' in getattr(os, 'sysconf_names', {}):
        memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        parts.append(f'{memory / GIB:.0f} GiB')
    return ', '.join(parts)


def _cpu_name() -> str:
    report = Path('/proc/cpuinfo')
    found = re.search(r'^model name\s*:\s*(.+)$', report.read_text(), re.MULTILINE) if report.is_file() else None
    return found.group(1) if found else platform.processor() or platform.machine()


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' + ('' if number == 1 else 's')
