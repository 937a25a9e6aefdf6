import numpy as np
import pytest

from mmsagan.analysis.soak import Resources, growth, growth_table, resources
from mmsagan.errors import ConfigError


def notes(memory) -> list[Resources]:
    return [Resources(100 * number, value, 0.0, 20, 3) for number, value in enumerate(memory, 1)]


def test_a_leak_is_seen_and_a_warm_up_is_not():
    flat = np.concatenate([np.linspace(100, 500, 20), np.full(40, 500.0)])
    assert [each.slope for each in growth(notes(flat))] == pytest.approx([0, 0, 0, 0], abs=1e-9)
    leaking = growth(notes(flat + 0.3 * np.arange(60)))
    assert leaking[0].name == 'memory_mb' and leaking[0].slope == pytest.approx(3)
    assert leaking[0].after - leaking[0].before == pytest.approx(0.3 * 20)
    assert '+3.00' in growth_table(leaking)


def test_too_few_notes():
    with pytest.raises(ConfigError, match='too few'):
        growth(notes([1.0] * 5))


def test_resources_of_this_process(tmp_path):
    before = resources(1)
    block = np.ones(64 * 2**17)
    with open(tmp_path / 'file', 'w'):
        after = resources(2)
    assert after.memory_mb - before.memory_mb == pytest.approx(64, abs=8) and block.size
    assert after.files == before.files + 1 and after.iteration == 2
