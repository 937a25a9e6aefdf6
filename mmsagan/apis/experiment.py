"""Training and evaluating what a config describes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import is_cuda_available
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmsagan.apis.zoo import resolve_config, resolve_model
from mmsagan.checkpoints.io import LAST_CHECKPOINT
from mmsagan.checkpoints.transfer import InitFrom
from mmsagan.datasets import ClassImageDataset, ImageFolder
from mmsagan.engine.config import (
    check_config,
    complete_evaluation,
    complete_loader,
    config_changes,
    config_errors,
    find_component,
    load_config,
)
from mmsagan.engine.distributed import prepare_distributed
from mmsagan.engine.hooks import ConsistencyHook, DivergenceHook
from mmsagan.engine.hooks.logging import SUMMARY, best_checkpoints
from mmsagan.engine.loops import GANTrainLoop, build_evaluator, evaluator_config
from mmsagan.engine.optim import has_fast_bfloat16
from mmsagan.engine.runner import GANRunner
from mmsagan.errors import ConfigError
from mmsagan.evaluation.evaluator import HELD_OUT, SEEDS_STD
from mmsagan.registry import DATASETS
from mmsagan.utils import register_all_modules
from mmsagan.utils.files import lock_folder


def train_from_config(cfg: Config) -> Runner:
    """Trains what a config describes, and evaluates it every ``val_interval`` iterations if it has a ``val_evaluator``.

    The config, which needs ``work_dir`` and ``launcher``, is modified. After SIGTERM, TrainingInterrupted is raised.
    """
    changes = config_changes(cfg)
    if not complete_evaluation(cfg, 'val'):
        print_log('no val_evaluator: there is no evaluation while training', logger='current')
    complete_evaluation(cfg, 'test')
    check_config(cfg)
    if init_from := cfg.model.get('init_from'):
        if cfg.get('load_from') and cfg.get('resume') is not True:
            raise ConfigError('load_from and model.init_from both name the weights to start from; set one of them to None')
        with config_errors('model.init_from'):
            checkpoint = InitFrom(**init_from).checkpoint
        if '://' not in checkpoint and not Path(checkpoint).suffix and not Path(checkpoint).is_file():
            init_from['checkpoint'] = resolve_model(checkpoint).weights
    if 'type' not in cfg.train_cfg and not cfg.train_cfg.get('by_epoch'):
        cfg.train_cfg = dict({key: value for key, value in cfg.train_cfg.items() if key != 'by_epoch'}, type='GANTrainLoop')
    hook = cfg.get('default_hooks', {}).get('checkpoint')
    if cfg.val_evaluator and isinstance(hook, dict) and hook.get('save_best', 'auto') == 'auto':
        with config_errors():
            rules = build_evaluator(cfg.val_evaluator).best_rules
        hook.update(save_best=list(rules) or None, rule=list(rules.values()) or None)
    rank = os.environ.get('SLURM_PROCID' if cfg.get('launcher') == 'slurm' else 'RANK', '0')
    is_first = cfg.get('launcher', 'none') == 'none' or rank == '0'  # the runner has not joined the processes yet
    with lock_folder(cfg.work_dir) if is_first else nullcontext(), _runner(cfg) as runner:
        # Built here, so that what they do not accept is reported as an error in the config.
        with config_errors():
            _ = runner.train_loop, runner.val_loop
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.config_changes = changes
        runner.train()
    return runner


def evaluate_from_config(cfg: Config, checkpoint: str, **options: Any) -> dict:
    """Evaluates a checkpoint, a file or URL, with the config's ``test_evaluator``; returns the results by name.

    The config, which needs ``work_dir`` and ``launcher``, is modified; what only training needs may be missing. ``options`` are
    arguments of the evaluator that replace the config's.
    """
    complete_evaluation(cfg, 'val')
    if complete_evaluation(cfg, 'test') and options:
        cfg.test_evaluator = dict(evaluator_config(cfg.test_evaluator), **options)
    check_config(cfg, training=False)
    cfg.resume, cfg.load_from = False, checkpoint
    with _runner(cfg) as runner:
        with config_errors():
            _ = runner.test_loop
        return runner.test()


@contextmanager
def _runner(cfg: Config) -> Iterator[Runner]:
    """Builds the runner. Hooks with a method ``on_exception(runner, error)`` learn why a run has ended early."""
    if cfg.get('launcher', 'none') != 'none':
        prepare_distributed(cfg, cfg.launcher)
    try:
        with config_errors():
            runner = GANRunner.from_cfg(cfg)
            for needed in (ConsistencyHook, DivergenceHook):
                if not any(isinstance(hook, needed) for hook in runner.hooks):
                    runner.register_hook(needed())
    except OSError as error:
        raise ConfigError(f'{cfg.work_dir} cannot be written: {error}; choose another --work-dir') from error
    try:
        yield runner
    except BaseException as error:
        for hook in runner.hooks:
            if hasattr(hook, 'on_exception'):
                hook.on_exception(runner, error)
        runner.visualizer.close()
        raise
    finally:
        if isinstance(runner._train_loop, GANTrainLoop):
            runner._train_loop.batches.stop_workers()


def use_mixed_precision(cfg: Config) -> None:
    """Turns on mixed precision (``--amp``): bfloat16, or float16 with loss scaling on GPUs without it."""
    if not cfg.get('optim_wrapper'):
        return  # train_from_config raises the error
    float16 = is_cuda_available() and not has_fast_bfloat16()
    for wrapper in (cfg.optim_wrapper, *cfg.optim_wrapper.values()):
        if isinstance(wrapper, dict) and (wrapper is cfg.optim_wrapper or 'optimizer' in wrapper):  # not clip_grad, for example
            wrapper.pop('type', None)
            wrapper.pop('dtype', None)
    cfg.optim_wrapper.type = 'AmpOptimWrapper' if float16 else 'BFloat16OptimWrapper'
    print_log(f'mixed precision: {"float16" if float16 else "bfloat16"}', logger='current')


def training_summary(runner: Runner) -> str:
    """Describes a finished run for people: its files, and the results of the last evaluation."""
    work_dir = Path(runner.work_dir)
    lines = [f'trained to iteration {runner.iter}', f'  work dir:   {work_dir}']
    if (work_dir / SUMMARY).is_file():
        lines.append(f'  summary:    {work_dir / SUMMARY}')
    pointer = work_dir / LAST_CHECKPOINT
    if pointer.is_file():
        lines.append(f'  checkpoint: {os.fsdecode(pointer.read_bytes()).strip()}')
    lines += [f'  samples:    {path}' for path in sorted((work_dir / 'samples').glob(f'*_{runner.iter}.png'))]
    lines.append(f'  log:        {Path(runner.log_dir) / (runner.timestamp + ".log")}')
    lines += [f'  best:       {path}' for path in best_checkpoints(runner)]
    results = getattr(runner.val_loop, 'results', None)
    return '\n'.join([*lines, '', results_table(results)] if results else lines)


def results_table(results: dict) -> str:
    """Formats an evaluator's results: with those of held-out real images beside them, and the 20 largest of those by class."""
    numbers = {name: f'{value:.4f}' for name, value in results.items() if isinstance(value, (int, float))}
    names = [name for name in numbers if not name.startswith((HELD_OUT, SEEDS_STD))]
    numbers.update({name: f'{numbers[name]} ± {numbers[SEEDS_STD + name]}' for name in names if SEEDS_STD + name in numbers})
    rows = [(name, numbers[name], numbers.get(HELD_OUT + '/'.join(name.split('/')[-2:]), '')) for name in names]
    if any(held_out for _, _, held_out in rows):
        rows.insert(0, ('', 'samples', 'held-out real'))
    width = max(map(len, names), default=0)
    lines = [f'  {name:<{width}}  {value:>10}  {held_out:>13}'.rstrip() for name, value, held_out in rows]
    for name, by_class in results.items():
        if isinstance(by_class, dict):
            largest = sorted(by_class.items(), key=lambda item: item[1], reverse=True)[:20]
            width = max(len(label) for label, _ in largest)
            count = '' if len(by_class) <= 20 else f', the 20 largest of {len(by_class)}'
            lines += ['', f'  {name}{count}', *(f'    {label:<{width}}  {value:>10.4f}' for label, value in largest)]
    return '\n'.join(lines)


def build_training_dataset(
    source: str | Path, cfg_options: Mapping | None = None, **options: Any
) -> tuple[ClassImageDataset, Config]:
    """Builds a training data set without its transforms; returns it, and its config, which is empty for a folder.

    ``source`` is a config, or a folder with one folder of images per class. ``options`` override arguments of the data set.
    """
    register_all_modules()
    if Path(source).is_dir():
        return ImageFolder(data_root=str(source), **options), Config()
    cfg = load_config(resolve_config(source), dict(cfg_options or {}))
    config = complete_loader(cfg, 'train').get('dataset')
    if not config or 'type' not in config:
        raise ConfigError(f'{source} has no train_dataloader with a dataset')
    kind = find_component(config['type'], 'train_dataloader.dataset.type')
    if not (isinstance(kind, type) and issubclass(kind, ClassImageDataset)):
        raise ConfigError(f'{source}: {config["type"]} is not a ClassImageDataset')
    with config_errors():
        return DATASETS.build(dict(config, pipeline=[], **options)), cfg
