"""Going back to an earlier checkpoint of a training while it runs."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import CheckpointHook, IterTimerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.io import LAST_CHECKPOINT, newest_first
from mmsagan.engine.hooks.checkpoint import point_to
from mmsagan.errors import CheckpointError
from mmsagan.utils.distributed import from_main_process
from mmsagan.utils.random_states import random_states, set_random_states

_LEARNING_RATES = ('lr', 'initial_lr', 'max_lr', 'min_lr')


def good_checkpoint(runner: Runner, before: int, avoid: int | None = None) -> tuple[int, Path] | None:
    """The newest checkpoint to go back to: readable, with the training's whole state, and nothing in it but finite numbers.

    In a distributed run all processes get the same answer.

    Args:
        runner: Of the training.
        before: The iteration that must not be in it yet.
        avoid: This checkpoint and newer ones are taken only if there is no older one.

    Returns:
        Its iteration and file; None if there is none that every process can read.
    """
    chosen = from_main_process(lambda: _choose(saved_by(runner), before, avoid))
    if chosen is not None and is_distributed():
        is_there = torch.tensor([float(chosen[1].is_file())])
        all_reduce(is_there, op='min')
        return chosen if is_there.item() else None
    return chosen


def saved_by(runner: Runner) -> list[tuple[int, Path]]:
    """The checkpoints that the runner's hook has saved and not removed since, the newest first."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch), None)
    if hook is None:
        return []
    return list(newest_first(Path(hook.out_dir or runner.work_dir), hook.filename_tmpl, Path(runner.work_dir, LAST_CHECKPOINT)))


def _choose(saved: list[tuple[int, Path]], before: int, avoid: int | None) -> tuple[int, Path] | None:
    saved = [(iteration, path) for iteration, path in saved if iteration < before]
    if avoid is not None and saved and saved[0][0] <= avoid:
        # Nothing has been saved since the training went back to that one, so it would come to the same end.
        saved.sort(key=lambda entry: entry[0] >= avoid)
    return next((entry for entry in saved if _is_good(entry[1])), None)


def _is_good(path: Path) -> bool:
    try:
        checkpoint = load_checkpoint_file(path)
    except CheckpointError:
        return False
    return 'optimizer' in checkpoint and is_finite(checkpoint['state_dict']) and is_finite(checkpoint['optimizer'])


def is_finite(state: Any) -> bool:
    """Whether all floating point tensors in nested dicts and lists are without NaN and Inf."""
    if isinstance(state, Mapping):
        return all(map(is_finite, state.values()))
    if isinstance(state, (list, tuple)):
        return all(map(is_finite, state))
    return not isinstance(state, Tensor) or not state.is_floating_point() or bool(state.isfinite().all())


def roll_back(runner: Runner, path: Path) -> None:
    """Puts networks, optimizers, schedules, logs and the count of iterations back to a checkpoint.

    Random numbers and data go on, so that the training does not take the same way again. To be called between two iterations.

    Args:
        runner: In training.
        path: The checkpoint, with the training's state.
    """
    random = random_states()
    was_resumed, runner._resume = runner._resume, True  # hooks tell by this that the whole state is loaded
    try:
        has_schedules = runner.param_schedulers is not None
        runner.resume(str(path), resume_param_scheduler=has_schedules, map_location='cpu')
    finally:
        runner._resume = was_resumed
    # MMEngine sets the seed anew where the checkpoint has another one than the config.
    set_random_states(random)
    for hook in runner.hooks:
        if isinstance(hook, IterTimerHook):  # it divides by the iterations since the training began
            hook.time_sec_tot = 0
            hook.before_train(runner)
        if isinstance(hook, CheckpointHook):
            _forget_later_checkpoints(hook, runner, path)


def _forget_later_checkpoints(hook: CheckpointHook, runner: Runner, path: Path) -> None:
    """Has the hook count the later checkpoints anew when they are saved again; until then, they stay where they are.

    The pointer that is younger than they are tells a resumed training that they are no longer part of the run.
    """
    hook.last_ckpt, hook._last_step = str(path), None
    if getattr(hook, 'keep_ckpt_ids', None):
        kept = [iteration for iteration in hook.keep_ckpt_ids if iteration <= runner.iter]
        hook.keep_ckpt_ids = deque(kept, hook.max_keep_ckpts)
        runner.message_hub.update_info('keep_ckpt_ids', kept)
    point_to(runner, path)


def wrappers_by_network(runner: Runner) -> dict[str, OptimWrapper]:
    """The runner's optimizer wrappers by the names of what they train; ``'model'`` if there is only one."""
    wrapper = runner.optim_wrapper
    return dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else dict(model=wrapper)


def scale_learning_rates(runner: Runner, factor: float) -> None:
    """Multiplies all learning rates, and those that the schedules count from.

    Args:
        runner: With its optimizers and schedules built.
        factor: The factor.
    """
    for wrapper in wrappers_by_network(runner).values():
        for group in wrapper.param_groups:
            group.update({key: group[key] * factor for key in _LEARNING_RATES if key in group})
    schedules = runner.param_schedulers or []
    for schedule in sum(schedules.values(), []) if isinstance(schedules, dict) else schedules:
        if schedule.param_name == 'lr':
            schedule.base_values = [value * factor for value in schedule.base_values]
