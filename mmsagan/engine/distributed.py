"""Processes and devices: joining and leaving a process group, on GPUs over NCCL and on CPUs over gloo."""

import os
import subprocess
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.device import get_device, is_cuda_available
from mmengine.dist import init_dist, is_distributed

from mmsagan.errors import ConfigError

_REQUIRED = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID'),
}


def prepare_distributed(cfg: Config, launcher: str) -> None:
    """Checks the environment of the launcher, ``'pytorch'`` or ``'slurm'``, and joins the process group if there are no GPUs.

    With GPUs, MMEngine's runner joins the group over NCCL. Without them it would fail, because it always sets a CUDA device; so
    the group is initialized here, over gloo. ``model_wrapper_cfg`` and ``env_cfg.dist_cfg`` are modified.
    """
    if launcher not in _REQUIRED:
        raise ConfigError(f'launcher {launcher!r} is not supported; choose pytorch or slurm')
    missing = [name for name in _REQUIRED[launcher] if name not in os.environ]
    if missing:
        script = 'torchrun, as tools/dist_train.sh does' if launcher == 'pytorch' else 'srun, as tools/slurm_train.sh does'
        raise ConfigError(f'--launcher {launcher}, but {", ".join(missing)} is not set: start with {script}')
    if launcher == 'pytorch':
        check_gpus(int(os.environ.get('LOCAL_WORLD_SIZE', 1)))
    else:
        environ = os.environ
        # The jobs on a node meet at different ports.
        environ.setdefault('MASTER_PORT', str(29500 + int(environ.get('SLURM_JOB_ID', 0)) % 3000))
        if 'MASTER_ADDR' not in environ:
            command = ['scontrol', 'show', 'hostnames', environ['SLURM_NODELIST']]
            environ['MASTER_ADDR'] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
        environ.update(RANK=environ['SLURM_PROCID'], WORLD_SIZE=environ['SLURM_NTASKS'], LOCAL_RANK=environ['SLURM_LOCALID'])
    env_cfg = cfg.get('env_cfg') or {}
    dist_cfg = env_cfg.get('dist_cfg') or {}
    timeout = dist_cfg.get('timeout', 1800)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e9:
        raise ConfigError(f'env_cfg.dist_cfg.timeout={timeout!r}; it must be a number of seconds above 0')
    cfg['env_cfg'] = dict(env_cfg, dist_cfg=dict(dist_cfg, timeout=timeout))
    if is_cuda_available() or is_distributed():
        return
    torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
    if cfg.get('model_wrapper_cfg') is not None:
        cfg['model_wrapper_cfg']['device_ids'] = None


def check_gpus(processes: int) -> None:
    """Raises a ConfigError if this machine has GPUs, but fewer than this number of processes needs."""
    if 0 < torch.cuda.device_count() < processes:
        raise ConfigError(f'{processes} processes need as many GPUs, but there are {torch.cuda.device_count()} on this machine')


def join_processes(launcher: str, cfg: Config) -> None:
    """Joins the process group in a tool that works without a runner, unless the launcher is ``'none'``."""
    if launcher != 'none':
        prepare_distributed(cfg, launcher)
        if not is_distributed():
            init_dist(launcher, timeout=cfg['env_cfg']['dist_cfg']['timeout'])


def leave_processes() -> None:
    """Destroys the process group, whose threads would otherwise outlive the interpreter, which may abort then."""
    if is_distributed():
        torch.distributed.destroy_process_group()


def device_name() -> str:
    """Name of the device that trains: that of a GPU, its type if it has none, or a CPU and the number of its threads."""
    device = get_device()
    if device == 'cpu':
        return f'CPU, {torch.get_num_threads()} threads'
    return getattr(torch.get_device_module(device), 'get_device_name', lambda: device)()


def find_device(name: str | torch.device | None) -> torch.device:
    """Returns the device of that name, or raises a ConfigError; None selects a GPU if there is one."""
    try:
        return torch.empty(0, device=name or get_device()).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device {name} cannot be used: {str(error).splitlines()[0]}') from error
