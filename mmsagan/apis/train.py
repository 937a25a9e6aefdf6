"""Training from a config."""

import os
import re
import shutil
from pathlib import Path

from mmengine.config import Config
from mmengine.device import is_cuda_available
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmsagan.engine.config_check import check_config
from mmsagan.engine.distributed import prepare_distributed
from mmsagan.engine.hooks import ConsistencyHook, ProgressHook
from mmsagan.engine.optimizers import has_fast_bfloat16
from mmsagan.errors import ConfigError


def train_from_config(cfg: Config) -> Runner:
    """Trains what a config describes.

    A run that fails before its first iteration takes what it has written away again.

    Args:
        cfg: The experiment, with ``work_dir`` and ``launcher``.

    Returns:
        The runner, after the last iteration.

    Raises:
        MMSAGANError: Something that the user can mend.
    """
    check_config(cfg)
    work_dir = Path(cfg.work_dir)
    if work_dir.exists() and not work_dir.is_dir():
        raise ConfigError(f'the work dir {work_dir} is a file; choose another one with --work-dir')
    before = set(work_dir.iterdir()) if work_dir.is_dir() else None
    if cfg.get('launcher', 'none') != 'none':
        prepare_distributed(cfg, cfg.launcher)
    runner = None
    try:
        runner = _build_runner(cfg)
        runner.train()
    except BaseException:
        _stop_progress(runner)
        if not _has_trained(runner) and os.environ.get('LOCAL_RANK', '0') == '0':
            _take_away(cfg, before)
        raise
    finally:
        _stop_loader_processes(runner)
    return runner


def _build_runner(cfg: Config) -> Runner:
    """Builds the runner, its data and its optimizers; what a constructor does not accept is the config's mistake."""
    try:
        runner = Runner.from_cfg(cfg)
        if not any(isinstance(hook, ConsistencyHook) for hook in runner.hooks):
            runner.register_hook(ConsistencyHook())
        if runner.distributed and not is_cuda_available():
            runner.logger.warning('no GPUs, so no SyncBN: the generator uses plain BN, each process its own statistics')
        _ = runner.train_loop  # builds the data loader
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise ConfigError(f'the experiment cannot be built: {type(error).__name__}: {error}') from error
    return runner


def use_mixed_precision(cfg: Config) -> None:
    """Turns on mixed precision (``--amp``): bfloat16, or float16 with loss scaling on GPUs that lack it."""
    float16 = is_cuda_available() and not has_fast_bfloat16()
    # The networks' own wrappers, told from shared settings such as clip_grad by their optimizer.
    own = [value for value in cfg.optim_wrapper.values() if isinstance(value, dict) and 'optimizer' in value]
    for wrapper in (cfg.optim_wrapper, *own):
        wrapper.pop('type', None)
        wrapper.pop('dtype', None)
    cfg.optim_wrapper.type = 'AmpOptimWrapper' if float16 else 'BFloat16OptimWrapper'
    print_log(f'mixed precision: {"float16" if float16 else "bfloat16"}', logger='current')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Turns on scaling of the learning rates with the batch size (``--auto-scale-lr``).

    Raises:
        ConfigError: The config does not say for which batch size its learning rates are.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise ConfigError(
            '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the batch size, over all '
            'GPUs, that its learning rates are meant for'
        )
    cfg.auto_scale_lr.enable = True


def summary(runner: Runner) -> str:
    """Where a finished run has left what: checkpoint, newest sample grids, log."""
    work_dir = Path(runner.work_dir)
    pointer = work_dir / 'last_checkpoint'
    lines = [f'trained to iteration {runner.iter}', f'  work dir:   {work_dir}']
    if pointer.is_file():
        lines.append(f'  checkpoint: {pointer.read_text().strip()}')
    grids = sorted((work_dir / 'samples').glob(f'*_{runner.iter}.png'))
    lines += [f'  samples:    {path}' for path in grids]
    lines.append(f'  log:        {Path(runner.log_dir) / (runner.timestamp + ".log")}')
    return '\n'.join(lines)


def _has_trained(runner: Runner | None) -> bool:
    loop = getattr(runner, '_train_loop', None)
    return not isinstance(loop, (dict, type(None))) and loop.iter > 0


def _take_away(cfg: Config, before: set[Path] | None) -> None:
    """Removes this run's log folder and config dump from the work dir, and the work dir if it was made for them."""
    work_dir = Path(cfg.work_dir)
    for path in set(work_dir.iterdir() if work_dir.is_dir() else ()) - (before or set()):
        if path.is_dir() and not path.is_symlink() and re.fullmatch(r'\d{8}_\d{6}', path.name):
            shutil.rmtree(path)
        elif path.name == Path(cfg.filename or '').name:
            path.unlink()
    if before is None and work_dir.is_dir() and not any(work_dir.iterdir()):
        work_dir.rmdir()


def _stop_loader_processes(runner: Runner | None) -> None:
    """Ends the data loader's processes at once: left to the garbage collector, each would keep it waiting for 5 seconds."""
    loop = getattr(runner, '_train_loop', None)
    if hasattr(loop, 'dataloader_iterator'):
        loop.dataloader_iterator._iterator = None
        loop.dataloader._iterator = None


def _stop_progress(runner: Runner | None) -> None:
    for hook in runner.hooks if runner is not None else ():
        if isinstance(hook, ProgressHook):
            hook.stop()
