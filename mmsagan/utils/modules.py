"""Helpers for networks."""

from typing import TypeVar, cast

from mmengine.model import is_model_wrapper
from torch import nn

Network = TypeVar('Network', bound=nn.Module)


def unwrap(network: Network) -> Network:
    """The network itself, without the DDP wrapper it may be in."""
    return cast(Network, network.module) if is_model_wrapper(network) else network
