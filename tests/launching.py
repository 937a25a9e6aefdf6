"""Tools in processes that multiprocessing's forkserver forks from one that has imported PyTorch already."""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import torch

ROOT = Path(__file__).parent.parent
_PRELOADED = [
    *('pytest', 'mmsagan.apis.experiment', 'mmsagan.apis.export', 'mmsagan.apis.series', 'mmsagan.visualization'),
    'yapf.yapflib.yapf_api',
]


def run_tool(script: str | Path, *arguments, **env) -> subprocess.CompletedProcess:
    """Runs a Python script in a process of its own, as ``subprocess.run`` would with what it says captured."""
    return _run(script, arguments, [env])[0]


def run_tools(script: str | Path, *arguments, processes: int, **env) -> list[subprocess.CompletedProcess]:
    """Runs a script in several processes with the environment that torchrun sets; returns by rank."""
    env.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port(), WORLD_SIZE=str(processes))
    ranks = [dict(env, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(processes)]
    return _run(script, arguments, ranks)


def free_port() -> str:
    """A port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return str(sock.getsockname()[1])


def _run(script, arguments, envs: list[dict]) -> list[subprocess.CompletedProcess]:
    command = [str(script), *map(str, arguments)]
    context = fork_server()
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(number) for number in range(len(envs))]
        processes = [
            context.Process(target=_be_the_tool, args=(command, dict(os.environ, **env), str(output)))
            for env, output in zip(envs, outputs)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
            process.kill()
            process.join()
        return [
            subprocess.CompletedProcess(
                command, process.exitcode, *(_text_of(f'{output}.{stream}') for stream in ('out', 'err'))
            )
            for process, output in zip(processes, outputs)
        ]


def _text_of(path: str) -> str:
    return Path(path).read_text() if os.path.exists(path) else ''


def fork_server():
    """The forkserver; when it is started, it imports what is preloaded from this repository."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(_PRELOADED)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    with mock.patch.dict(os.environ, PYTHONPATH=path):
        forkserver.ensure_running()
    return context


def _be_the_tool(command: list[str], environ: dict, output: str) -> None:
    multiprocessing.set_start_method(None, force=True)  # the default again, for data loaders
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(ROOT)
    for number, stream in ((1, 'out'), (2, 'err')):
        file = os.open(f'{output}.{stream}', os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = sys.__stdout__ = open(1, 'w')
    sys.stderr = sys.__stderr__ = open(2, 'w', buffering=1, errors='backslashreplace')
    sys.path[:0] = [str(Path(command[0]).parent), *filter(None, environ.get('PYTHONPATH', '').split(os.pathsep))]
    torch.set_num_threads(int(environ.get('OMP_NUM_THREADS', torch.get_num_threads())))
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()  # as at a process's own end, which a forked one skips
        sys.stdout.flush()
