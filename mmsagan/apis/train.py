"""Training from a config."""

import shutil
from pathlib import Path

from mmengine.config import Config
from mmengine.device import is_cuda_available
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmsagan.engine.config import check_config
from mmsagan.engine.distributed import prepare_distributed
from mmsagan.engine.hooks import DataCheckHook, ProgressHook
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
    if cfg.get('launcher', 'none') != 'none':
        prepare_distributed(cfg, cfg.launcher)
    before = _contents(Path(cfg.work_dir))
    runner = None
    try:
        runner = Runner.from_cfg(cfg)
        if not any(isinstance(hook, DataCheckHook) for hook in runner.hooks):
            runner.register_hook(DataCheckHook())
        runner.train()
    except BaseException:
        _stop_progress(runner)
        if not _has_trained(runner) and is_main_process():
            _restore(Path(cfg.work_dir), before)
        raise
    return runner


def use_mixed_precision(cfg: Config) -> None:
    """Turns on mixed precision (``--amp``): bfloat16, or float16 with loss scaling on GPUs that lack it."""
    import torch

    float16 = is_cuda_available() and not torch.cuda.is_bf16_supported()
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


def _contents(folder: Path) -> set[Path] | None:
    return set(folder.iterdir()) if folder.is_dir() else None


def _has_trained(runner: Runner | None) -> bool:
    loop = getattr(runner, '_train_loop', None)
    return not isinstance(loop, (dict, type(None))) and loop.iter > 0


def _restore(folder: Path, before: set[Path] | None) -> None:
    for path in (_contents(folder) or set()) - (before or set()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if before is None and folder.is_dir():
        folder.rmdir()


def _stop_progress(runner: Runner | None) -> None:
    for hook in runner.hooks if runner is not None else ():
        if isinstance(hook, ProgressHook):
            hook.stop()
