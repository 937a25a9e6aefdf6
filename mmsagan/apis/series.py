"""Several configs, each trained with several seeds, as one table and one figure."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmsagan.engine.config import complete_evaluation, load_config
from mmsagan.engine.config_check import check_config
from mmsagan.engine.logs import Curve, find_names, is_result, read_curves
from mmsagan.errors import ConfigError, DataError
from mmsagan.utils.files import shipped_root, write_output

Panels = dict[str, dict[str, Curve]]


@dataclass(frozen=True)
class Member:
    """One training of a series.

    Attributes:
        variant: What its config is called in the table and the figure.
        seed: Of the training.
        cfg: The config, with that seed and the series' length.
        folder: Gets ``config.py``, ``output.txt`` and the work dir ``run``.
    """

    variant: str
    seed: int
    cfg: Config
    folder: Path

    def __str__(self) -> str:
        return f'{self.variant}, seed {self.seed}'

    @property
    def max_iters(self) -> int:
        return self.cfg.train_cfg.max_iters

    def curves(self) -> dict[str, Curve]:
        """What it has logged up to its length; a training may have gone on farther in a longer series."""
        curves = read_curves(self.folder / 'run')
        return {
            name: (steps[steps <= self.max_iters], values[steps <= self.max_iters]) for name, (steps, values) in curves.items()
        }

    def finished(self) -> bool:
        """Whether it has been trained to its length and evaluated there."""
        try:
            curves = self.curves()
        except DataError:
            return False
        return any(is_result(name) and self.max_iters in steps for name, (steps, _) in curves.items())


def plan_series(
    configs: Sequence[Path], seeds: Sequence[int], folder: Path, max_iters: int | None = None, options: dict | None = None
) -> list[Member]:
    """The trainings of a series, one seed after the other, so that a series that is stopped early has every config.

    Args:
        configs: The config files.
        seeds: The seeds, for each of them.
        folder: Of the series; each training has one of its own in it.
        max_iters: How long each trains; None: as long as the configs say, which must be the same in all.
        options: Dotted keys and their values, for all configs.

    Raises:
        ConfigError: A config is wrong, is not evaluated at its last iteration, or has other settings than when it was trained
            in this folder; or configs or seeds are given twice.
    """
    variants = variant_names(configs)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f'a seed is given twice: {", ".join(map(str, seeds))}')
    loaded = [_load(config, max_iters, options) for config in configs]
    lengths = {cfg.train_cfg.max_iters for cfg in loaded}
    if len(lengths) > 1:
        raise ConfigError(f'the configs train for {", ".join(map(str, sorted(lengths)))} iterations; choose one by --max-iters')
    members = []
    for seed in seeds:
        for variant, cfg in zip(variants, loaded):
            seeded = Config(cfg.to_dict())
            seeded.merge_from_dict({'randomness.seed': seed})
            members.append(Member(variant, seed, seeded, folder / variant / f'seed_{seed}'))
    for member in members:
        _check_settings(member)
    return members


def _load(path: Path, max_iters: int | None, options: dict | None) -> Config:
    length = {} if max_iters is None else {'train_cfg.max_iters': max_iters}
    cfg = load_config(path, {**(options or {}), **length})
    completed = Config(cfg.to_dict())
    if not complete_evaluation(completed, 'val'):
        raise ConfigError(f'{path}: no val_evaluator, so there is nothing to compare')
    complete_evaluation(completed, 'test')
    check_config(completed)
    last, interval = (cfg.train_cfg.get(key) for key in ('max_iters', 'val_interval'))
    if cfg.train_cfg.get('by_epoch') or not last or not interval:
        raise ConfigError(f'{path}: a series counts iterations; set train_cfg.by_epoch=False, max_iters and val_interval')
    if last % interval:
        raise ConfigError(
            f'{path}: not evaluated at its last iteration, {last}; give a multiple of train_cfg.val_interval={interval}'
        )
    return cfg


def _check_settings(member: Member) -> None:
    """Raises a ConfigError if the training has been begun with other settings; a series may be made longer, though."""
    path = member.folder / 'config.py'
    if not path.is_file():
        return
    begun = load_config(path)
    begun.train_cfg.max_iters = member.max_iters
    if begun.to_dict() != member.cfg.to_dict():
        raise ConfigError(f'{member}: {path} has other settings; give the same ones, or another --work-dir')


def variant_names(configs: Sequence[Path]) -> list[str]:
    """What tells configs apart: of their names, the parts between underscores that are not the same in all of them.

    Raises:
        ConfigError: Two have the same name.

    Example:
        >>> variant_names([Path('sagan_32_feat16_b64.py'), Path('sagan_32_no-attention_b64.py')])
        ['feat16', 'no-attention']
    """
    names = [config.stem for config in configs]
    if len(set(names)) < len(names):
        raise ConfigError(f'two configs have the same name: {", ".join(names)}')
    parts = [name.split('_') for name in names]
    if len(names) == 1 or len({len(fields) for fields in parts}) > 1:
        return names
    differs = [len(set(fields)) > 1 for fields in zip(*parts)]
    return ['_'.join(field for field, keep in zip(fields, differs) if keep) for fields in parts]


def train_series(members: Sequence[Member], jobs: int = 1) -> None:
    """Trains what is not trained yet, each in a process of its own; what was interrupted goes on from its last checkpoint.

    Args:
        members: The trainings; what each prints goes into its ``output.txt``.
        jobs: How many are trained at a time. The CPU's cores are divided among them.

    Raises:
        ConfigError: A training has failed. Those that run are waited for, others are not begun.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    failed = threading.Event()

    def train(member: Member) -> None:
        if failed.is_set():
            return
        try:
            _train(member, threads)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(train, member) for member in members if not member.finished()]
        try:
            for future in futures:
                future.result()
        except BaseException:
            failed.set()
            raise


def _train(member: Member, threads: int) -> None:
    print(f'{member}: to iteration {member.max_iters}\n', end='', flush=True)  # one write, since several threads print
    config, output = member.folder / 'config.py', member.folder / 'output.txt'
    write_output(config, member.cfg.pretty_text.encode())
    command = [
        sys.executable,
        str(shipped_root() / 'tools/train.py'),
        str(config),
        '--work-dir',
        str(member.folder / 'run'),
        '--resume',
    ]
    with output.open('a') as file:
        result = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=dict(os.environ, OMP_NUM_THREADS=str(threads))
        )
    if result.returncode:
        raise ConfigError(f'{member}: the training has failed (exit code {result.returncode}); {output} says why')
    if not member.finished():
        raise ConfigError(f'{member}: trained, but not evaluated at iteration {member.max_iters}; see {output}')


def series_curves(members: Sequence[Member], keys: Sequence[str]) -> Panels:
    """The curves of finished trainings.

    Args:
        members: The trainings.
        keys: As in :func:`mmsagan.engine.logs.find_names`.

    Returns:
        By quantity, and in it by variant, iterations (K,) and values (K, S) of the S seeds, in the members' order.

    Raises:
        ConfigError: A quantity was not logged.
        DataError: It was logged at other iterations by another training.
    """
    logs = [(member.variant, member.curves()) for member in members]
    logged = list(dict.fromkeys(name for _, curves in logs for name in curves))
    variants = dict.fromkeys(variant for variant, _ in logs)
    panels: Panels = {}
    for name in dict.fromkeys(name for key in keys for name in find_names(key, logged)):
        found = [(variant, curves[name]) for variant, curves in logs if name in curves]
        steps = found[0][1][0]
        if len(found) < len(logs) or any(not np.array_equal(curve[0], steps) for _, curve in found):
            raise DataError(f'the trainings have not logged {name} at the same iterations')
        panels[name] = {
            variant: (steps, np.stack([curve[1] for owner, curve in found if owner == variant], axis=1)) for variant in variants
        }
    return panels


def series_table(panels: Panels, seeds: Sequence[int]) -> str:
    """The values at the last iteration, in Markdown: a line a variant; of each quantity, the seeds' values and their mean.

    Args:
        panels: From :func:`series_curves`.
        seeds: The seeds, in the curves' order.
    """
    several = len(seeds) > 1
    columns = [*(f'seed {seed}' for seed in seeds), *(['mean'] if several else [])]
    titles = [f'{name}, {column}' for name in panels for column in columns]
    first = next(iter(panels.values()))
    last_step = next(iter(first.values()))[0][-1]
    lines = [f'| at iteration {last_step:.0f} | ' + ' | '.join(titles) + ' |', '|---|' + '---:|' * len(titles)]
    for variant in first:
        last = [curves[variant][1][-1] for curves in panels.values()]
        values = [value for of_seeds in last for value in ([*of_seeds, of_seeds.mean()] if several else of_seeds)]
        lines.append(f'| {variant} | ' + ' | '.join(f'{value:#.4g}' for value in values) + ' |')
    return '\n'.join(lines) + '\n'
