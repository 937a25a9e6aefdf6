import random

import numpy as np
import torch

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.utils.random_states import fork_rng, get_rng_states, set_rng_states


def draw() -> list:
    return [random.random(), np.random.randn(3).tolist(), random.gauss(0, 1), torch.randn(3).tolist()]


def test_states_survive_a_checkpoint(tmp_path):
    draw()
    torch.save(dict(states=get_rng_states()), tmp_path / 'states.pth')
    expected = draw(), draw()
    set_rng_states(load_checkpoint_file(tmp_path / 'states.pth')['states'])
    assert (draw(), draw()) == expected


def test_drawing_from_a_seed():
    with fork_rng(1, 2, 3):
        first = draw()
    expected = get_rng_states()
    found = []
    for seed in ((1, 2, 3), (1, 2, 4), (1, 2), (3, 2, 1)):
        with fork_rng(*seed):
            found.append(draw())
    assert found[0] == first and all(other[i] != first[i] for other in found[1:] for i in range(4))
    state = get_rng_states()
    assert state['python'] == expected['python'] and torch.equal(state['torch'], expected['torch'])
    assert np.array_equal(state['numpy'][1], expected['numpy'][1]) and state['numpy'][2:] == expected['numpy'][2:]
