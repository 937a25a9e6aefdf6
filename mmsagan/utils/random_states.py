"""The random number generators that a training draws from: those of Python, numpy and torch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.device import get_device


def get_rng_states() -> dict:
    """Returns the states of this process's generators, as plain values and arrays that a checkpoint can hold."""
    states = dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state())
    device = get_device()
    if device != 'cpu':  # the current one of this type, the only one that a process uses
        states[device] = torch.get_device_module(device).get_rng_state()
    return states


def set_rng_states(states: dict) -> None:
    """Restores the states of the generators; that of a device that is not there is ignored."""
    version, numbers, gauss = states['python']
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(states['numpy']))
    torch.set_rng_state(states['torch'].cpu())
    device = get_device()
    if device in states:
        torch.get_device_module(device).set_rng_state(states[device].cpu())


@contextmanager
def fork_rng(*seed: int) -> Iterator[None]:
    """Seeds the CPU's generators with any number of non-negative integers within the context, and restores their states."""
    python, numpy = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(seed).generate_state(4, np.uint64)
    with torch.random.fork_rng(devices=[]):
        random.seed(int(words[0]))
        np.random.seed(words[1:3].view(np.uint32))
        # torch.manual_seed would seed the GPUs as well.
        torch.default_generator.manual_seed(int(words[3] >> np.uint64(1)))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
