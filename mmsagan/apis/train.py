"""Training from a config."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import is_cuda_available
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmsagan.apis.report import results_table
from mmsagan.apis.running import config_mistakes, runner_of
from mmsagan.engine.config import complete_evaluation, complete_training
from mmsagan.engine.config_changes import MISSING, as_code, changes_of_training
from mmsagan.engine.config_check import check_config
from mmsagan.engine.hooks.logging import SUMMARY
from mmsagan.engine.loops import build_evaluator
from mmsagan.engine.optimizers import has_fast_bfloat16
from mmsagan.engine.prefetch import prefetch_to_gpu
from mmsagan.errors import ConfigError


def train_from_config(cfg: Config) -> Runner:
    """Trains what a config describes, and evaluates it every ``val_interval`` iterations if it has a ``val_evaluator``.

    A run that fails before its first iteration takes what it has written away again.

    Args:
        cfg: The experiment, with ``work_dir`` and ``launcher``.

    Returns:
        The runner, after the last iteration.

    Raises:
        TrainingInterrupted: The training was told to stop (SIGTERM, Ctrl-C) and has saved its state.
        MMSAGANError: Something that the user can mend.
    """
    changes = changes_of_training(cfg)
    if not complete_evaluation(cfg, 'val'):
        print_log('no val_evaluator: there is no evaluation while training', logger='current')
    complete_evaluation(cfg, 'test')
    check_config(cfg)
    complete_training(cfg)
    with config_mistakes():
        keep_best_checkpoints(cfg)
    with runner_of(cfg) as runner:
        with config_mistakes():
            _build_parts(runner)
        bases, *changed = changes
        texts = [{key: ['' if v is MISSING else as_code(v) for v in pair] for key, pair in part.items()} for part in changed]
        runner.config_changes = (bases, *texts)
        runner.train()
    return runner


def _build_parts(runner: Runner) -> None:
    """Builds the data, the evaluator and the optimizers, before the training starts."""
    if runner.distributed and not is_cuda_available():
        runner.logger.warning('no GPUs, so no SyncBN: the generator uses plain BN, each process its own statistics')
    _ = runner.train_loop
    prefetch_to_gpu(runner)
    _ = runner.val_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)


def keep_best_checkpoints(cfg: Config) -> None:
    """Has the checkpoints with the best IS and the best FID kept, if the config does not say which ones (``save_best``)."""
    hook = cfg.get('default_hooks', {}).get('checkpoint')
    if cfg.get('val_evaluator') and isinstance(hook, dict) and hook.get('save_best', 'auto') == 'auto':
        rules = build_evaluator(cfg.val_evaluator).best_rules
        hook.update(save_best=list(rules) or None, rule=list(rules.values()) or None)


def without_evaluation(cfg: Config) -> None:
    """Takes the evaluation out of a training (``--no-validate``)."""
    cfg.val_evaluator = None


def use_mixed_precision(cfg: Config) -> None:
    """Turns on mixed precision (``--amp``): bfloat16, or float16 with loss scaling on GPUs that lack it."""
    if not cfg.get('optim_wrapper'):
        return  # there is nothing to train with, which train_from_config says
    float16 = is_cuda_available() and not has_fast_bfloat16()
    # The networks' own wrappers, told from shared settings such as clip_grad by their optimizer.
    own = [value for value in cfg.optim_wrapper.values() if isinstance(value, dict) and 'optimizer' in value]
    for wrapper in (cfg.optim_wrapper, *own):
        wrapper.pop('type', None)
        wrapper.pop('dtype', None)
    cfg.optim_wrapper.type = 'AmpOptimWrapper' if float16 else 'BFloat16OptimWrapper'
    print_log(f'mixed precision: {"float16" if float16 else "bfloat16"}', logger='current')


def allow_tf32(allow: bool) -> None:
    """Sets whether GPUs may round the factors of float32 products and convolutions to TF32 (``--tf32``), in this process."""
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


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
    """Where a finished run has left what: page, checkpoints, newest sample grids, log; and the last evaluation's results."""
    work_dir = Path(runner.work_dir)
    pointer = work_dir / 'last_checkpoint'
    lines = [f'trained to iteration {runner.iter}', f'  work dir:   {work_dir}']
    if (work_dir / SUMMARY).is_file():
        lines.append(f'  summary:    {work_dir / SUMMARY}')
    if pointer.is_file():
        lines.append(f'  checkpoint: {pointer.read_text().strip()}')
    grids = sorted((work_dir / 'samples').glob(f'*_{runner.iter}.png'))
    lines += [f'  samples:    {path}' for path in grids]
    lines.append(f'  log:        {Path(runner.log_dir) / (runner.timestamp + ".log")}')
    for best in sorted(work_dir.glob('best_*.pth')):
        lines.append(f'  best:       {best}')
    results = getattr(runner.val_loop, 'results', None)
    if results:
        lines += ['', results_table(results)]
    return '\n'.join(lines)
