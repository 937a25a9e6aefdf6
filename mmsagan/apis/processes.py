"""Processes and device of a tool that works without a runner."""

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed

from mmsagan.engine.distributed import prepare_distributed, prepare_environment, timeout_of
from mmsagan.engine.failures import start_watch
from mmsagan.errors import ConfigError


def watch_processes(launcher: str) -> None:
    """Has this process end when another one of the run fails. To be called first, before anything can fail.

    Args:
        launcher: ``'none'``, ``'pytorch'`` or ``'slurm'``.

    Raises:
        ConfigError: The launcher did not start this process.
    """
    if launcher != 'none':
        prepare_environment(launcher)
        start_watch()


def join_processes(launcher: str, cfg: Config) -> None:
    """Joins the processes that a launcher has started, over NCCL with GPUs and over gloo without.

    Args:
        launcher: ``'none'``, ``'pytorch'`` or ``'slurm'``.
        cfg: The experiment's config; its ``env_cfg.dist_cfg.timeout`` says how long they wait for each other.

    Raises:
        ConfigError: The launcher did not start this process, or the timeout is not one.
    """
    if launcher == 'none':
        return
    prepare_distributed(cfg, launcher)
    if not is_distributed():
        init_dist(launcher, timeout=timeout_of(cfg))


def find_device(name: str | None) -> torch.device:
    """The device of that name; None takes a GPU if there is one.

    Raises:
        ConfigError: There is none of that name.
    """
    try:
        return torch.empty(0, device=name or get_device()).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'--device {name} cannot be used: {str(error).splitlines()[0]}') from error
