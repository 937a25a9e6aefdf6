"""The states of the random number generators that a training draws from: Python's, numpy's and torch's."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

RandomStates = dict


def random_states() -> RandomStates:
    """The states of this process's generators, as plain values and arrays that a checkpoint can hold."""
    states = dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state())
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()  # of the current device, the only one that a process uses
    return states


def set_random_states(states: RandomStates) -> None:
    """Puts the generators into these states; one on a device that is not there is left out."""
    version, numbers, gauss = states['python']
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(states['numpy']))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


@contextmanager
def fork_rng(*seed: int) -> Iterator[None]:
    """Within it, what is drawn on the CPU follows from the numbers given; afterwards, all generators are as they were before.

    Args:
        *seed: Any number of non-negative integers.

    Example:
        >>> with fork_rng(2022, 0, 17):
        ...     first = np.random.rand()
        >>> with fork_rng(2022, 0, 17):
        ...     first == np.random.rand()
        True
    """
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    mixed = np.random.SeedSequence(seed).generate_state(4, np.uint64)
    random.seed(int(mixed[0]))
    np.random.seed(mixed[1:3].view(np.uint32))
    # Not torch.manual_seed, which would seed the GPUs, too.
    torch.default_generator.manual_seed(int(mixed[3] >> np.uint64(1)))
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
