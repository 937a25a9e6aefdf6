"""Joining the processes of a distributed run, also where there are no GPUs."""

import os
import subprocess
from datetime import timedelta

import torch
from mmengine.device import is_cuda_available
from mmengine.dist import is_distributed

from mmsagan.errors import ConfigError

_NEEDED = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID'),
}


def prepare_distributed(cfg, launcher: str) -> None:
    """Prepares the process group that the runner will find.

    With GPUs nothing is left to do: MMEngine's runner starts NCCL. MMEngine sets a CUDA device unconditionally, so on a machine
    without one the group is started here, over gloo, and DDP is told to stay on the CPU.

    Args:
        cfg: The experiment's config; its ``model_wrapper_cfg`` may be changed.
        launcher: ``'pytorch'`` (torchrun) or ``'slurm'``.

    Raises:
        ConfigError: The launcher is another one, or did not start this process.
    """
    if launcher not in _NEEDED:
        raise ConfigError(f'launcher {launcher!r} is not supported; choose pytorch or slurm')
    missing = [name for name in _NEEDED[launcher] if name not in os.environ]
    if missing:
        raise ConfigError(
            f'--launcher {launcher}, but {", ".join(missing)} is not set: start with '
            + ('a script such as tools/dist_train.sh' if launcher == 'pytorch' else 'srun, as tools/slurm_train.sh does')
        )
    if is_cuda_available() or is_distributed():
        return
    if launcher == 'slurm':
        _set_environment_from_slurm()
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
    wrapper = cfg.get('model_wrapper_cfg')
    if wrapper is not None:
        wrapper['device_ids'] = None


def leave_processes() -> None:
    """Leaves the process group, if there is one; its threads would otherwise outlive the interpreter, which may abort then."""
    if is_distributed():
        torch.distributed.destroy_process_group()


def _set_environment_from_slurm() -> None:
    environ = os.environ
    environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in environ:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostnames', environ['SLURM_NODELIST']], capture_output=True, text=True, check=True
        )
        environ['MASTER_ADDR'] = hosts.stdout.split()[0]
    environ.update(RANK=environ['SLURM_PROCID'], WORLD_SIZE=environ['SLURM_NTASKS'], LOCAL_RANK=environ['SLURM_LOCALID'])
