"""What the benchmark measures, and how its results are written down."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils import benchmark

from mmsagan.analysis.hardware import MatmulPeak
from mmsagan.analysis.measuring import MIN_ROUNDS, Action, Timing, peak_memory, time_alternately
from mmsagan.analysis.tables import text_table
from mmsagan.utils.files import write_output


@dataclass(frozen=True)
class Workload:
    """Something to be measured.

    Args:
        what: Its name, as ``'step'``.
        config: The config's name.
        precision: What it computes in, as ``'fp32'``.
        fast: Does it once.
        images: How many images one call works on.
        flops: FLOPs of one call of ``fast``, as it is run and not as the function is defined, see
            :mod:`mmsagan.analysis.flops`; None where they are not known or not the point.
        reference: Does the same in the way it is compared with; None: no comparison.
        before_fast: Puts the process into the state that the fast side needs, before each of its turns; see
            :func:`~mmsagan.analysis.measuring.time_alternately`.
        before_reference: Likewise.
        min_rounds: How few rounds will do.
    """

    what: str
    config: str
    precision: str
    fast: Action
    images: int
    flops: int | None = None
    reference: Action | None = None
    before_fast: Action | None = None
    before_reference: Action | None = None
    min_rounds: int = MIN_ROUNDS


@dataclass(frozen=True)
class Measurement:
    """A workload's result: a row of the table and of the JSON file.

    Args:
        what: See :class:`Workload`.
        config: Likewise.
        device: The kind of device, ``'cpu'`` or ``'cuda'``.
        precision: See :class:`Workload`.
        fast: The times of its calls.
        images: See :class:`Workload`.
        reference: The times of the reference's calls, or None.
        peak_memory_mb: What a call of the fast side needs beyond what is there before it, in MB of 2^20 bytes, or None.
        flops: See :class:`Workload`.
        peak: The rate that ``flops`` a second is held against, or None.
        reference_memory_mb: What a call of the reference needs, or None; in the table only.
    """

    what: str
    config: str
    device: str
    precision: str
    fast: Timing
    images: int
    reference: Timing | None = None
    peak_memory_mb: float | None = None
    flops: int | None = None
    peak: MatmulPeak | None = None
    reference_memory_mb: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the reference takes."""
        return self.reference.median / self.fast.median if self.reference else None

    @property
    def images_per_second(self) -> float:
        """Of the fast side."""
        return self.images / self.fast.median

    @property
    def flops_per_second(self) -> float | None:
        """Of the fast side."""
        return self.flops / self.fast.median if self.flops else None

    @property
    def peak_fraction(self) -> float | None:
        """The share of the matmul peak that the fast side reaches."""
        return self.flops_per_second / self.peak.flops_per_second if self.flops and self.peak else None

    def row(self) -> dict:
        """What the JSON file says of it: medians in seconds; None is what was not measured."""
        return dict(
            what=self.what,
            config=self.config,
            device=self.device,
            precision=self.precision,
            reference_s=self.reference.median if self.reference else None,
            fast_s=self.fast.median,
            ratio=self.ratio,
            images_per_s=self.images_per_second,
            peak_memory_mb=self.peak_memory_mb,
            peak_fraction=self.peak_fraction,
        )


def measure(
    workload: Workload,
    device: torch.device | str = 'cpu',
    peak: MatmulPeak | None = None,
    rounds: int = MIN_ROUNDS,
    warmup: int = 2,
    memory: bool = True,
    clock: Callable[[], float] = benchmark.timer,
) -> Measurement:
    """Times a workload and its reference in turns, and measures the memory that either needs.

    Args:
        workload: What is measured.
        device: Where it runs.
        peak: The device's matmul peak in the workload's precision.
        rounds: Timed calls of each side.
        warmup: Calls of each side before.
        memory: Whether to measure memory, which takes three more calls of each side.
        clock: See :func:`~mmsagan.analysis.measuring.time_alternately`.

    Raises:
        ConfigError: There are too few rounds.

    Example:
        >>> images = torch.rand(16, 3, 32, 32)
        >>> measure(Workload('mean', 'none', 'fp32', fast=lambda: images.mean(), images=16)).row()['ratio'] is None
        True
    """
    sides = dict(fast=workload.fast)
    if workload.reference is not None:
        sides = dict(reference=workload.reference, fast=workload.fast)
    before = dict(reference=workload.before_reference, fast=workload.before_fast)
    before = {side: prepare for side, prepare in before.items() if prepare is not None}
    timings = time_alternately(sides, rounds, warmup, clock, before, workload.min_rounds)
    memories = {side: peak_memory(action, device, warmup=0) for side, action in sides.items()} if memory else {}
    return Measurement(
        what=workload.what,
        config=workload.config,
        device=torch.device(device).type,
        precision=workload.precision,
        fast=timings['fast'],
        images=workload.images,
        reference=timings.get('reference'),
        peak_memory_mb=memories.get('fast'),
        flops=workload.flops,
        peak=peak,
        reference_memory_mb=memories.get('reference'),
    )


def measurements_table(measurements: Sequence[Measurement]) -> str:
    """The results for people: medians with their interquartile ranges; a dash is what was not measured.

    The first call is the fast side's. So is the memory, and behind the slash the reference's.
    """
    titles = ['what', 'config', 'device', 'precision', 'reference [s]', 'fast [s]', 'ratio', 'images/s']
    titles += ['first call [s]', 'memory, fast / reference [MB]', 'GFLOP/s', 'of peak']
    rows = [
        [
            result.what,
            result.config,
            result.device,
            result.precision,
            _seconds(result.reference),
            _seconds(result.fast),
            _number(result.ratio, '.2f'),
            _number(result.images_per_second, ',.1f'),
            _number(result.fast.first, '.4g'),
            _memory(result),
            _number(result.flops_per_second and result.flops_per_second / 1e9, ',.1f'),
            _number(result.peak_fraction, '.1%'),
        ]
        for result in measurements
    ]
    return text_table(titles, rows, left=4)


def write_measurements(path: str | Path, measurements: Sequence[Measurement]) -> None:
    """Writes the results as JSON, ``{"rows": [...]}``, see :meth:`Measurement.row`.

    Raises:
        ConfigError: The file cannot be written.
    """
    content = dict(rows=[measurement.row() for measurement in measurements])
    write_output(path, json.dumps(content, indent=2).encode() + b'\n')


def _seconds(timing: Timing | None) -> str:
    if timing is None:
        return '-'
    return f'{timing.median:.4g} ± {_number(timing.spread, ".2g")}'


def _memory(result: Measurement) -> str:
    fast, reference = (_number(memory, ',.0f') for memory in (result.peak_memory_mb, result.reference_memory_mb))
    return fast if result.reference_memory_mb is None else f'{fast} / {reference}'


def _number(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)
