"""Helpers for networks."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, without the DDP wrapper it may be in."""
    return network.module if is_model_wrapper(network) else network
