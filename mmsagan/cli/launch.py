"""Checks what a distributed run needs before its processes start; ``tools/dist_run.sh`` calls it."""

import os
import runpy
import socket
import sys
from argparse import Namespace
from pathlib import Path

import torch
from mmengine.device import is_cuda_available

from mmsagan.apis.sampling import check_output
from mmsagan.apis.zoo import resolve_config
from mmsagan.checkpoints.io import check_integrity
from mmsagan.cli.tool import run_tool
from mmsagan.engine.config import check_config, complete_evaluation, complete_loader, config_errors, load_config
from mmsagan.engine.loops import build_evaluator
from mmsagan.errors import ConfigError
from mmsagan.registry import DATASETS
from mmsagan.utils.download import URLS


def main() -> None:
    """Raises an MMSAGANError for a mistake that each process would report: ``TOOL PROCESSES [arguments of the tool]``."""
    tool, processes, *arguments = sys.argv[1:]
    check_machine(processes, os.environ.get('PORT'), os.environ.get('NNODES', '1'), os.environ.get('NODE_RANK', '0'))
    sys.argv = [tool, *arguments]
    check_experiment(Path(tool).stem, runpy.run_path(tool)['parse_args']())


def check_machine(processes: str, port: str | None, nodes: str, node: str) -> None:
    """Checks the number of GPUs, and the port at which the processes meet; on one node without a port, any free one is used."""
    if not processes.isdecimal() or int(processes) < 1:
        raise ConfigError(f'the number of GPUs must be at least 1, got {processes!r}')
    if is_cuda_available() and torch.cuda.device_count() < int(processes):
        raise ConfigError(f'{processes} processes need as many GPUs, but there are {torch.cuda.device_count()} on this machine')
    port = port or (None if nodes == '1' else '29500')
    if port is None or node != '0':
        return
    try:
        socket.create_server(('', int(port))).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = (getattr(error, 'strerror', None) or 'not the number of a port').partition(' (')[0]
        remedy = 'leave it unset, and a free one is taken' if nodes == '1' else 'set another one, the same on all nodes'
        raise ConfigError(f'PORT={port} cannot be used: {reason}; {remedy}') from error


def check_experiment(tool: str, args: Namespace) -> None:
    """Checks the config, and that the data set and the checkpoint are there."""
    cfg = load_config(resolve_config(args.config), args.cfg_options)
    for checkpoint in (args.resume, cfg.get('load_from')) if tool == 'train' else (args.checkpoint,):
        if checkpoint not in (None, 'auto', 'zoo') and '://' not in checkpoint:
            check_integrity(checkpoint)
    if tool == 'sample':
        check_output(args.out, args.npz)
        return
    complete_evaluation(cfg, 'val')
    complete_evaluation(cfg, 'test')
    check_config(cfg, tool == 'train')
    with config_errors():
        if tool == 'train':
            DATASETS.build(complete_loader(cfg, 'train')['dataset'])
        elif any(metric.needs_real and not _has_statistics(metric) for metric in build_evaluator(cfg.test_evaluator).metrics):
            DATASETS.build(cfg.test_dataloader['dataset'])


def _has_statistics(metric) -> bool:
    path = getattr(metric, 'inception_pkl', None)
    return path is not None and (path.startswith(URLS) or Path(path).expanduser().is_file())


if __name__ == '__main__':
    run_tool(main)
