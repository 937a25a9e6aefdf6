import pytest

from mmsagan.utils.text import decimal, duration, memory_size, rate


@pytest.mark.parametrize(
    'seconds, text',
    [
        (0, '0:00:00'),
        (59.9, '0:00:59'),
        (278, '0:04:38'),
        (86399, '23:59:59'),
        (86400, '1 day 0:00:00'),
        (200000, '2 days 7:33:20'),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_amounts():
    assert [memory_size(size) for size in (0.4, 411.6, 999, 11571)] == ['0 MB', '412 MB', '999 MB', '11.3 GB']
    assert [decimal(value) for value in (1.5671, -0.0004, 123456.0, float('nan'))] == ['1.567', '-0.000', '1.235e+05', 'nan']
    assert [rate(value) for value in (2310.4, 99.96, 45.61, 0.8213)] == ['2310', '100', '45.6', '0.821']
