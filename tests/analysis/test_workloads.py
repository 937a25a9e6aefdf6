import json

import pytest

from mmsagan.analysis import workloads
from mmsagan.analysis.hardware import MatmulPeak
from mmsagan.analysis.measuring import Timing
from mmsagan.analysis.workloads import Measurement, Workload, measure, measurements_table, write_measurements
from mmsagan.errors import ConfigError

PEAK = MatmulPeak('cpu', 'fp32', False, 1024, 200e9)
FULL = Measurement(
    what='step',
    config='small',
    device='cpu',
    precision='fp32',
    fast=Timing((2.0, 1.0, 3.0, 2.0, 2.0)),
    images=64,
    reference=Timing((8.0, 8.0, 9.0, 7.0, 10.0)),
    peak_memory_mb=1234.5,
    flops=100 * 10**9,
    peak=PEAK,
    reference_memory_mb=2469,
)
LEAST = Measurement(what='data', config='small', device='cpu', precision='uint8', fast=Timing((0.5,) * 5), images=100)


def test_rows():
    assert FULL.row() == dict(
        what='step',
        config='small',
        device='cpu',
        precision='fp32',
        reference_s=8.0,
        fast_s=2.0,
        ratio=4.0,
        images_per_s=32.0,
        peak_memory_mb=1234.5,
        peak_fraction=0.25,  # 100 GFLOPs in 2 s, of 200 GFLOP/s
    )
    row = LEAST.row()
    assert row['images_per_s'] == 200
    assert all(row[key] is None for key in ('reference_s', 'ratio', 'peak_memory_mb', 'peak_fraction'))


def test_the_file_holds_the_rows(tmp_path):
    write_measurements(tmp_path / 'new' / 'results.json', [FULL, LEAST])
    assert json.loads((tmp_path / 'new' / 'results.json').read_text()) == {'rows': [FULL.row(), LEAST.row()]}


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match='cannot be written'):
        write_measurements(tmp_path, [FULL])


def test_the_table():
    lines = measurements_table([FULL, LEAST]).splitlines()
    assert lines[1].split() == [
        'step',
        'small',
        'cpu',
        'fp32',
        *'8 ± 1 2 ± 0'.split(),
        '4.00',
        '32.0',
        '-',
        *'1,234 / 2,469'.split(),
        '50.0',
        '25.0%',
    ]
    assert lines[2].split() == ['data', 'small', 'cpu', 'uint8', '-', *'0.5 ± 0'.split(), '-', '200.0', '-', '-', '-', '-']


def test_the_table_of_a_single_call():
    """It has no spread, and the memory of one side may be known alone."""
    single = Measurement('eval', 'small', 'cpu', 'fp32', Timing((2.0,), 2.5), 100, Timing((4.0,)), peak_memory_mb=5)
    cells = measurements_table([single]).splitlines()[1].split()
    assert cells == ['eval', 'small', 'cpu', 'fp32', *'4 ± - 2 ± -'.split(), '2.00', '50.0', '2.5', '5', '-', '-']


def test_both_sides_are_measured_in_turns():
    now, calls = [0.0], []

    def side(name, seconds):
        def run():
            calls.append(name)
            now[0] += seconds

        return run

    workload = Workload('step', 'small', 'fp32', fast=side('f', 1), images=8, flops=10**9, reference=side('r', 3))
    result = measure(workload, peak=PEAK, rounds=5, warmup=1, memory=False, clock=lambda: now[0])
    assert ''.join(calls) == 'rf' + 'rffr' * 2 + 'rf'
    assert result == Measurement(
        'step', 'small', 'cpu', 'fp32', Timing((1.0,) * 5, 1.0), 8, Timing((3.0,) * 5, 3.0), flops=10**9, peak=PEAK
    )
    assert result.ratio == 3 and result.peak_fraction == 1 / 200


def test_each_side_is_prepared_for_its_turns():
    calls = []
    workload = Workload(
        'step',
        'small',
        'fp32',
        fast=lambda: calls.append('f'),
        images=8,
        reference=lambda: calls.append('r'),
        before_fast=lambda: calls.append('F'),
        before_reference=lambda: calls.append('R'),
        min_rounds=1,
    )
    result = measure(workload, rounds=2, warmup=0, memory=False)
    assert ''.join(calls) == 'RrrFff' + 'FffRrr'
    assert len(result.fast.seconds) == len(result.reference.seconds) == 2


def test_memory_of_both_sides(monkeypatch):
    sizes = dict(fast=3.0, reference=9.0)
    monkeypatch.setattr(workloads, 'peak_memory', lambda action, device, warmup: sizes[action()])
    workload = Workload('step', 'small', 'fp32', fast=lambda: 'fast', images=8, reference=lambda: 'reference')
    result = measure(workload)
    assert (result.peak_memory_mb, result.reference_memory_mb) == (3.0, 9.0)
    assert result.row()['peak_memory_mb'] == 3.0 and len(result.row()) == 10


def test_one_side_alone():
    workload = Workload('sample', 'small', 'bf16', fast=lambda: None, images=8)
    result = measure(workload, memory=False)
    assert result.reference is None and len(result.fast.seconds) == 5 and result.precision == 'bf16'
