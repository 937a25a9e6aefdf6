"""What is said before the processes of a distributed run start."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from launching import ROOT
from mmengine.config import Config

from mmsagan.cli import launch, tool
from mmsagan.cli.tool import run_tool
from mmsagan.engine import distributed
from mmsagan.errors import ConfigError, DataError

CONFIG, CIFAR = 'sagan_32_mnist_b32x1', 'sagan_32_woReLUinplace_cifar10_b64x1'


@pytest.fixture
def check(monkeypatch, capsys, tmp_path):
    """Checks a command: check('train', processes, argument, ..., PORT=...) -> exit code and the last line of the errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distributed.torch.cuda, 'device_count', lambda: 0)

    def run(name: str, processes: object, *arguments: str, **env: str):
        monkeypatch.setattr(sys, 'argv', ['launch', str(ROOT / f'tools/{name}.py'), str(processes), *arguments])
        for key in ('PORT', 'NNODES', 'NODE_RANK'):
            monkeypatch.delenv(key, raising=False)
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        with pytest.raises(SystemExit) as info:
            run_tool(launch.main)
        return info.value.code, capsys.readouterr().err.strip()

    return run


@pytest.mark.parametrize(
    'name, arguments, named',
    [
        ('train', [CIFAR], 'data/cifar10'),
        ('train', [CONFIG, '--resume', 'no.pth'], 'no.pth'),
        ('train', [CONFIG, '--cfg-options', 'load_from=no.pth'], 'no.pth'),
        ('train', [CONFIG, '--cfg-options', 'model.generator.base_chanels=8'], 'model.generator.base_chanels'),
        ('train', ['no.py'], 'no.py'),
        ('test', [CONFIG, 'no.pth'], 'no.pth'),
        ('test', [CIFAR, 'zoo', '--cfg-options', 'test_evaluator.inception_pkl=no.pkl'], 'data/cifar10'),
        ('sample', [CONFIG, 'no.pth', '--out', 'a.png'], 'no.pth'),
        ('sample', [CONFIG, 'zoo', '--out', 'a.jpg'], 'a.jpg'),
        ('evaluate_images', ['.', '--real', 'no.zip'], 'no.zip'),
    ],
)
def test_mistakes_of_all_processes_are_one_message(check, name, arguments, named):
    code, said = check(name, 2, *arguments)
    assert code == 2 and said.splitlines()[-1].startswith('error: ') and named in said.splitlines()[-1]


def test_what_is_right_is_not_reported(check):
    assert check('train', 2, CONFIG) == (None, '')
    Path('data/cifar10').mkdir(parents=True)  # is not read, which may take minutes
    assert check('train', 2, CIFAR) == (None, '')
    assert check('sample', 2, CONFIG, 'zoo', '--out', 'a.png') == (None, '')
    assert check('evaluate_images', 2, '.', '--real', 'https://no.npz') == (None, '')


def test_the_port(check):
    with socket.create_server(('127.0.0.1', 0)) as server:
        taken = str(server.getsockname()[1])
        for env in (dict(PORT=taken), dict(PORT=taken, NNODES='2'), dict(PORT='a'), dict(PORT='-1'), dict(PORT='70000')):
            code, said = check('train', 2, CONFIG, **env)
            assert code == 2 and said.startswith(f'error: PORT={env["PORT"]} ') and '\n' not in said
        assert check('train', 2, CONFIG, PORT=taken, NNODES='2', NODE_RANK='1') == (None, ''), "another node's"
    assert check('train', 2, CONFIG, PORT=taken) == (None, '')


@pytest.mark.parametrize(
    'device, module, expected',
    [
        ('cuda', SimpleNamespace(get_device_name=lambda: 'Turing 2000'), 'Turing 2000'),
        ('mps', SimpleNamespace(), 'mps'),
        ('cpu', None, f'CPU, {torch.get_num_threads()} threads'),
    ],
)
def test_the_name_of_the_device(device, module, expected, monkeypatch):
    monkeypatch.setattr(distributed, 'get_device', lambda: device)
    monkeypatch.setattr(torch, 'get_device_module', {device: module}.__getitem__)
    assert distributed.device_name() == expected


def test_the_number_of_gpus(check, monkeypatch):
    for processes in (0, 'two', '-1'):
        code, said = check('train', processes, CONFIG)
        assert code == 2 and repr(str(processes)) in said
    monkeypatch.setattr(distributed.torch.cuda, 'device_count', lambda: 4)
    code, said = check('train', 8, CONFIG)
    assert code == 2 and '8' in said and '4' in said
    assert check('train', 4, CONFIG) == (None, '')
    for key in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):  # started by torchrun itself
        monkeypatch.setenv(key, '0')
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '8')
    with pytest.raises(ConfigError, match='8.*4'):
        distributed.prepare_distributed(Config(), 'pytorch')


@pytest.mark.parametrize(
    'env, expected',
    [
        ({}, ['--standalone', '--local_addr=127.0.0.1']),
        (dict(PORT='29501'), ['--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1', '--master_port=29501']),
        (dict(NNODES='2'), ['--nnodes=2', '--node_rank=0', '--master_addr=127.0.0.1', '--master_port=29500']),
    ],
)
def test_the_script(tmp_path, env, expected):
    """Checks first, and starts nothing if that fails."""
    (tmp_path / 'python').write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$2" != mmsagan.cli.launch ] || exit $CODE\n'
    )
    (tmp_path / 'python').chmod(stat.S_IRWXU)
    script = ROOT / 'tools' / 'dist_train.sh'
    for code in ('2', '0'):
        path = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'CODE': code}
        ended = subprocess.run(['bash', script, 'c.py', '4', '--resume'], env=path | env, capture_output=True, text=True)
        assert ended.returncode == int(code), ended.stderr
    checked, again, started = Path(tmp_path, 'calls').read_text().splitlines()
    train = ROOT / 'tools' / 'train.py'
    assert checked == again == f'-m mmsagan.cli.launch {train} 4 c.py --resume'
    options = ' '.join([*expected, '--nproc_per_node=4'])
    assert started == f'-m torch.distributed.run {options} {train} c.py --resume --launcher pytorch'


@pytest.mark.parametrize(
    'env, waits', [({}, False), (dict(RANK='0'), False), (dict(RANK='1'), True), (dict(SLURM_PROCID='1'), True)]
)
def test_the_first_process_speaks_for_all(monkeypatch, capsys, env, waits):
    """Torchrun and srun end the others while they wait."""
    said_before = []
    monkeypatch.setattr(tool.time, 'sleep', lambda _: said_before.append(capsys.readouterr().err))
    for key, value in env.items():
        monkeypatch.setenv(key, value)

    def fail():
        raise DataError('no data')

    with pytest.raises(SystemExit, match='2'):
        run_tool(fail)
    assert said_before == [''] * waits and capsys.readouterr().err == 'error: no data\n'


def test_jobs_on_a_node_meet_at_different_ports(monkeypatch):
    ports = []
    monkeypatch.setattr(distributed.torch.distributed, 'init_process_group', lambda *_, **__: None)
    for job, given in (('4711', None), ('4712', None), ('4712', '29600')):
        environ = dict(
            SLURM_PROCID='1', SLURM_NTASKS='2', SLURM_NODELIST='a', SLURM_LOCALID='1', MASTER_ADDR='a', SLURM_JOB_ID=job
        )
        monkeypatch.setattr(os, 'environ', environ | ({'MASTER_PORT': given} if given else {}))
        distributed.prepare_distributed(Config(), 'slurm')
        assert (os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['LOCAL_RANK']) == ('1', '2', '1')
        ports.append(int(os.environ['MASTER_PORT']))
    assert ports[0] != ports[1] and ports[2] == 29600 and all(1024 <= port < 65536 for port in ports)
