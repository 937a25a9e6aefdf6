"""Processes and device of a tool that works without a runner."""

import torch
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed

from mmsagan.engine.distributed import prepare_distributed
from mmsagan.errors import ConfigError


def join_processes(launcher: str) -> None:
    """Joins the processes that a launcher has started, over NCCL with GPUs and over gloo without.

    Args:
        launcher: ``'none'``, ``'pytorch'`` or ``'slurm'``.

    Raises:
        ConfigError: The launcher did not start this process.
    """
    if launcher == 'none':
        return
    prepare_distributed({}, launcher)
    if not is_distributed():
        init_dist(launcher, timeout=1800)


def find_device(name: str | None) -> torch.device:
    """The device of that name; None takes a GPU if there is one.

    Raises:
        ConfigError: There is none of that name.
    """
    try:
        return torch.empty(0, device=name or get_device()).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'--device {name} cannot be used: {str(error).splitlines()[0]}') from error
