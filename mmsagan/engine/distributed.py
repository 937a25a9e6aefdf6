"""Joining the processes of a distributed run, also where there are no GPUs."""

import os
import subprocess
from datetime import timedelta

import torch
from mmengine.device import is_cuda_available
from mmengine.dist import is_distributed

from mmsagan.engine.failures import current_watch
from mmsagan.errors import ConfigError

_NEEDED = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID'),
}
DEFAULT_TIMEOUT = 1800  # seconds


def prepare_environment(launcher: str) -> None:
    """Checks that a launcher started this process; of SLURM's variables it makes those that PyTorch reads.

    Args:
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
            + ('torchrun, as tools/dist_train.sh does' if launcher == 'pytorch' else 'srun, as tools/slurm_train.sh does')
        )
    if launcher == 'slurm':
        _set_environment_from_slurm()


def prepare_distributed(cfg, launcher: str) -> None:
    """Prepares the process group that the runner will find.

    With GPUs nothing is left to do: MMEngine's runner starts NCCL. MMEngine sets a CUDA device unconditionally, so on a machine
    without one the group is started here, over gloo, and DDP is told to stay on the CPU.

    Args:
        cfg: The experiment's config; its ``model_wrapper_cfg`` and ``env_cfg.dist_cfg`` may be changed.
        launcher: ``'pytorch'`` (torchrun) or ``'slurm'``.

    Raises:
        ConfigError: The launcher is another one, or did not start this process; or the timeout is not one.
    """
    prepare_environment(launcher)
    timeout = timeout_of(cfg)
    env_cfg = cfg.get('env_cfg') or {}
    cfg['env_cfg'] = dict(env_cfg, dist_cfg=dict(env_cfg.get('dist_cfg') or {}, timeout=timeout))  # MMEngine starts NCCL by it
    if is_cuda_available() or is_distributed():
        return
    torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
    wrapper = cfg.get('model_wrapper_cfg')
    if wrapper is not None:
        wrapper['device_ids'] = None


def timeout_of(cfg) -> float:
    """How many seconds a process waits for the others: ``env_cfg.dist_cfg.timeout``.

    Args:
        cfg: The experiment's config.

    Raises:
        ConfigError: It is not a number of seconds.
    """
    timeout = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout', DEFAULT_TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < 1e9:
        raise ConfigError(f'env_cfg.dist_cfg.timeout={timeout!r}; it must be a number of seconds above 0')
    return timeout


def leave_processes() -> None:
    """Leaves the other processes when they are done, too.

    The threads of a process group would otherwise outlive the interpreter, which may abort then.
    """
    watch = current_watch()
    if watch is not None:
        watch.finish()
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
