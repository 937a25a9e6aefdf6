"""What processes need to know of each other before they join."""

import os
import stat

import pytest
from mmengine.config import Config

from mmsagan.apis.processes import join_processes, watch_processes
from mmsagan.engine import distributed
from mmsagan.engine.distributed import DEFAULT_TIMEOUT, prepare_distributed, prepare_environment, timeout_of
from mmsagan.errors import ConfigError

VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    """Without any variables that a launcher sets, now and afterwards."""
    for name in [*VARIABLES, *(name for name in os.environ if name.startswith('SLURM_'))]:
        monkeypatch.setenv(name, '')  # so that it is taken back afterwards
        monkeypatch.delenv(name)


def test_the_timeout_of_a_config():
    assert (
        timeout_of({}) == timeout_of(dict(env_cfg=None)) == timeout_of(dict(env_cfg=dict(dist_cfg=dict()))) == DEFAULT_TIMEOUT
    )
    assert timeout_of(dict(env_cfg=dict(dist_cfg=dict(timeout=2.5)))) == 2.5


@pytest.mark.parametrize('timeout', [0, -3, '60', True, None, float('nan'), float('inf')])
def test_a_wrong_timeout(timeout):
    with pytest.raises(ConfigError, match=r'env_cfg.dist_cfg.timeout=.*; it must be a number of seconds above 0'):
        timeout_of(dict(env_cfg=dict(dist_cfg=dict(timeout=timeout))))


@pytest.mark.parametrize('cfg', [dict(), dict(env_cfg=dict(cudnn_benchmark=True, dist_cfg=dict(backend='nccl')))])
def test_the_runner_finds_the_timeout(monkeypatch, cfg):
    """With GPUs it is MMEngine's runner that starts the process group; its own default would be another one."""
    monkeypatch.setattr(distributed, 'is_cuda_available', lambda: True)
    for name in VARIABLES:
        monkeypatch.setenv(name, '1')
    changed = Config(cfg)
    prepare_distributed(changed, 'pytorch')
    assert changed.env_cfg.dist_cfg.timeout == DEFAULT_TIMEOUT
    for key, value in cfg.get('env_cfg', {}).items():
        assert changed.env_cfg[key] == (dict(value, timeout=DEFAULT_TIMEOUT) if key == 'dist_cfg' else value)


def test_the_environment_of_slurm(tmp_path, monkeypatch):
    """Also with GPUs: MMEngine then keeps what is set."""
    (tmp_path / 'scontrol').write_text(
        '#!/usr/bin/env bash\n[ "$*" = "show hostnames node[7-8]" ] && echo node7 && echo node8\n'
    )
    (tmp_path / 'scontrol').chmod(stat.S_IRWXU)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    for name, value in dict(PROCID='9', NTASKS='16', NODELIST='node[7-8]', LOCALID='1').items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    prepare_environment('slurm')
    assert {name: os.environ[name] for name in VARIABLES} == dict(zip(VARIABLES, ('9', '16', '1', 'node7', '29500')))


@pytest.mark.parametrize('launcher, missing', [('pytorch', 'RANK, WORLD_SIZE'), ('slurm', 'SLURM_PROCID')])
def test_a_process_that_no_launcher_has_started(launcher, missing):
    for function in (watch_processes, lambda launcher: join_processes(launcher, {})):
        with pytest.raises(ConfigError, match=f'--launcher {launcher}, but {missing}.* is not set: start with'):
            function(launcher)


def test_a_process_without_a_launcher_neither_joins_nor_watches():
    watch_processes('none')
    join_processes('none', {})
    with pytest.raises(ConfigError, match="launcher 'mpi' is not supported"):
        watch_processes('mpi')
