"""Building a runner from a config, and cleaning up when it comes to nothing."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import BaseLoop, Runner

from mmsagan.engine.distributed import prepare_distributed
from mmsagan.engine.hooks import ConsistencyHook, DivergenceHook, ProgressHook, SummaryHook
from mmsagan.engine.runner import GANRunner
from mmsagan.engine.train_loop import GANTrainLoop
from mmsagan.errors import ConfigError, TrainingInterrupted


@contextmanager
def config_mistakes() -> Iterator[None]:
    """Within it, what a constructor does not accept is a mistake in the config."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise ConfigError(f'the experiment cannot be built: {type(error).__name__}: {error}') from error


@contextmanager
def runner_of(cfg: Config) -> Iterator[Runner]:
    """Gives the runner that a config describes, and ends its processes and bars afterwards.

    If the block fails before anything came of it, what this run has written is taken away again.

    Args:
        cfg: The experiment, with ``work_dir`` and ``launcher``.

    Raises:
        ConfigError: The runner cannot be built.
    """
    work_dir = Path(cfg.work_dir)
    if work_dir.exists() and not work_dir.is_dir():
        raise ConfigError(f'the work dir {work_dir} is a file; choose another one with --work-dir')
    before = set(work_dir.iterdir()) if work_dir.is_dir() else None
    if cfg.get('launcher', 'none') != 'none':
        prepare_distributed(cfg, cfg.launcher)
    runner = None
    try:
        with config_mistakes():
            runner = GANRunner.from_cfg(cfg)
            for needed in (ConsistencyHook, DivergenceHook):
                if not any(isinstance(hook, needed) for hook in runner.hooks):
                    runner.register_hook(needed())
        yield runner
    except BaseException as error:
        _tell_of_end(runner, error)
        came_to_something = _has_come_to_something(runner) or isinstance(error, TrainingInterrupted)
        if not came_to_something and os.environ.get('LOCAL_RANK', '0') == '0':
            _take_away(cfg, before)
        if runner is None and isinstance(error, OSError):
            raise ConfigError(
                f'the work dir {work_dir} cannot be written: {error}; choose another one with --work-dir'
            ) from error
        raise
    finally:
        _stop_loader_processes(runner)


def _has_come_to_something(runner: Runner | None) -> bool:
    loop = getattr(runner, '_train_loop', None)
    if isinstance(loop, GANTrainLoop):
        has_trained = loop.has_trained
    else:
        has_trained = isinstance(loop, BaseLoop) and loop.iter > 0
    return has_trained or bool(getattr(getattr(runner, '_test_loop', None), 'results', None))


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
    loop: Any = getattr(runner, '_train_loop', None)
    if hasattr(loop, 'dataloader_iterator'):
        # The one that a prefetcher reads from, if there is one.
        batches = getattr(loop.dataloader_iterator, 'batches', loop.dataloader_iterator)
        batches._iterator = None
        loop.dataloader._iterator = None


def _tell_of_end(runner: Runner | None, error: BaseException) -> None:
    """Has the display end, the page about the training say why, and trackers write what they still have."""
    if runner is None:
        return
    for hook in runner.hooks:
        if isinstance(hook, (ProgressHook, SummaryHook)):
            hook.on_exception(runner, error)
    runner.visualizer.close()
