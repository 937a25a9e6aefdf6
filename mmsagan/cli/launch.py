"""Checks what a distributed run needs before its processes start; ``tools/dist_run.sh`` calls it."""

import os
import runpy
import socket
import sys
from pathlib import Path

from mmsagan.apis.sampling import check_output
from mmsagan.apis.zoo import resolve_config
from mmsagan.checkpoints.io import check_integrity
from mmsagan.cli.tool import run_tool
from mmsagan.datasets import ClassImageDataset
from mmsagan.engine.config import check_config, complete_evaluation, complete_loader, config_errors, find_component, load_config
from mmsagan.engine.distributed import check_gpus
from mmsagan.engine.loops import build_evaluator
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import DATASETS
from mmsagan.utils.download import URLS


def main() -> None:
    """Raises an MMSAGANError for a mistake that each process would report: ``TOOL PROCESSES [arguments of the tool]``."""
    script, processes, *arguments = sys.argv[1:]
    if not processes.isdecimal() or int(processes) < 1:
        raise ConfigError(f'the number of GPUs must be at least 1, got {processes!r}')
    check_gpus(int(processes))
    # Without a port, processes on one machine take any free one.
    port = os.environ.get('PORT') or ('' if os.environ.get('NNODES', '1') == '1' else '29500')
    try:
        if port and os.environ.get('NODE_RANK', '0') == '0':
            socket.create_server(('', int(port))).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f'PORT={port} cannot be used ({error}); set another one, the same on all nodes') from error
    sys.argv = [script, *arguments]
    args = runpy.run_path(script)['parse_args']()
    if not hasattr(args, 'config'):  # of evaluate_images.py; to read archives may take minutes
        for source in filter(None, (args.images, args.real)):
            if not source.startswith(URLS) and not Path(source).exists():
                raise DataError(f'{source} does not exist')
        return
    cfg = load_config(resolve_config(args.config), args.cfg_options)
    is_training = hasattr(args, 'resume')
    for checkpoint in (args.resume, cfg.get('load_from')) if is_training else (args.checkpoint,):
        if checkpoint not in (None, 'auto', 'zoo') and '://' not in checkpoint:
            check_integrity(checkpoint)
    if hasattr(args, 'npz'):
        check_output(args.out, args.npz)
        return
    complete_evaluation(cfg, 'val')
    complete_evaluation(cfg, 'test')
    check_config(cfg, is_training)
    with config_errors():
        needed = [] if is_training else [metric for metric in build_evaluator(cfg.test_evaluator).metrics if metric.needs_real]
        statistics = [getattr(metric, 'inception_pkl', None) or '' for metric in needed]
        if is_training or not all(name.startswith(URLS) or Path(name).expanduser().is_file() for name in statistics):
            config = complete_loader(cfg, 'train' if is_training else 'test').get('dataset') or {}
            kind = find_component(config.get('type', object), 'dataset.type')
            if isinstance(kind, type) and issubclass(kind, ClassImageDataset):
                dataset = DATASETS.build(dict(config, lazy_init=True))
                if not Path(dataset.data_prefix.get('img_path') or dataset.data_root or '.').is_dir():
                    dataset.full_init()  # says what is missing; to search a folder that is there may take minutes


if __name__ == '__main__':
    run_tool(main)
