"""Training several configs with the same seeds, for one table and one figure."""

import itertools
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

from mmsagan.engine.config import check_config, complete_evaluation, load_config
from mmsagan.errors import ConfigError, DataError
from mmsagan.utils.files import shipped_root, write_output
from mmsagan.visualization.curves import Curve, find_names, is_result, read_curves

Panels = dict[str, dict[str, Curve]]


@dataclass(frozen=True)
class SeriesRun:
    """One training of a series; its folder gets ``config.py``, ``output.txt`` and the work dir ``run``."""

    variant: str
    seed: int
    cfg: Config
    folder: Path

    def curves(self) -> dict[str, Curve]:
        """Returns what it has logged, up to its length: an earlier, longer series may have trained it further."""
        last, curves = self.cfg.train_cfg.max_iters, read_curves(self.folder / 'run')
        return {name: (steps[steps <= last], values[steps <= last]) for name, (steps, values) in curves.items()}

    def is_finished(self) -> bool:
        """Returns whether it has been evaluated at its last iteration."""
        try:
            curves = self.curves()
        except DataError:  # no log yet
            return False
        return any(is_result(name) and self.cfg.train_cfg.max_iters in steps for name, (steps, _) in curves.items())


def plan_series(
    configs: Sequence[Path], seeds: Sequence[int], folder: Path, max_iters: int | None = None, options: dict | None = None
) -> list[SeriesRun]:
    """Plans the trainings of a series, seed by seed, so that a series that is stopped early includes every config.

    The length defaults to that of the configs; ``options`` are dotted keys and values for all configs. A config that is wrong,
    repeated, not evaluated at its last iteration, or other than when its training was started, is a ConfigError.
    """
    names = [path.stem for path in configs]
    if len(set(names)) < len(names):
        raise ConfigError(f'two configs have the same name: {", ".join(names)}')
    length = {} if max_iters is None else {'train_cfg.max_iters': max_iters}
    loaded = [load_config(path, {**(options or {}), **length}) for path in configs]
    for path, cfg in zip(configs, loaded):
        completed = Config(cfg.to_dict())
        if not complete_evaluation(completed, 'val'):
            raise ConfigError(f'{path}: no val_evaluator, so there is nothing to compare')
        check_config(completed)
        last, interval = (cfg.train_cfg.get(key) for key in ('max_iters', 'val_interval'))
        if not last or not interval or last % interval or last != loaded[0].train_cfg.get('max_iters'):
            raise ConfigError(f'{path}: train_cfg.max_iters={last} must be that of all, a multiple of val_interval={interval}')
    # The parts in which the names differ: 'feat16' and 'sn-D' of 'sagan_32_feat16_b64' and 'sagan_32_sn-D_b64'.
    fields = [name.split('_') for name in names]
    if len(names) > 1 and len(set(map(len, fields))) == 1:
        differs = [len(set(values)) > 1 for values in zip(*fields)]
        names = ['_'.join(itertools.compress(values, differs)) for values in fields]
    runs = []
    for seed, (variant, cfg) in itertools.product(seeds, zip(names, loaded)):
        run = SeriesRun(variant, seed, Config(cfg.to_dict()), folder / variant / f'seed_{seed}')
        run.cfg.merge_from_dict({'randomness.seed': seed})
        path = run.folder / 'config.py'
        if path.is_file():
            begun = load_config(path)
            begun.train_cfg.max_iters = run.cfg.train_cfg.max_iters
            if begun.to_dict() != run.cfg.to_dict():
                raise ConfigError(f'{variant}, seed {seed}: {path} has other settings; use another --work-dir')
        runs.append(run)
    return runs


def train_series(runs: Sequence[SeriesRun], jobs: int = 1) -> None:
    """Trains the unfinished runs, ``jobs`` at a time, each in its own process; interrupted ones resume.

    If one fails, which is a ConfigError, running ones are waited for, and no others are started.
    """
    env = dict(os.environ, OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // jobs)))
    has_failed = threading.Event()

    def train(run: SeriesRun) -> None:
        if has_failed.is_set():
            return
        name = f'{run.variant}, seed {run.seed}'
        print(f'{name}: to iteration {run.cfg.train_cfg.max_iters}\n', end='', flush=True)  # one write: several threads print
        config, output = run.folder / 'config.py', run.folder / 'output.txt'
        write_output(config, run.cfg.pretty_text.encode())
        command = [sys.executable, shipped_root() / 'tools/train.py', config, '--work-dir', run.folder / 'run', '--resume']
        with output.open('a') as file:
            code = subprocess.run(list(map(str, command)), stdout=file, stderr=subprocess.STDOUT, env=env).returncode
        if code or not run.is_finished():
            has_failed.set()
            reason = f'failed with exit code {code}' if code else 'ended without an evaluation at its last iteration'
            raise ConfigError(f'{name}: the training {reason}; see {output}')

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(train, run) for run in runs if not run.is_finished()]:
            future.result()


def series_curves(runs: Sequence[SeriesRun], keys: Sequence[str]) -> Panels:
    """Returns, for each quantity and variant, iterations (K,) and values (K, S) for the S seeds, in the order of the runs.

    ``keys`` are those of :func:`mmsagan.visualization.curves.find_names`. Different iterations are a DataError.
    """
    logs = [(run.variant, run.curves()) for run in runs]
    logged = list(dict.fromkeys(name for _, curves in logs for name in curves))
    panels: Panels = {}
    for name in dict.fromkeys(name for key in keys for name in find_names(key, logged)):
        steps = next(curves[name][0] for _, curves in logs if name in curves)
        values: dict[str, list[np.ndarray]] = {}
        for variant, curves in logs:
            if name not in curves or not np.array_equal(curves[name][0], steps):
                raise DataError(f'the runs did not log {name} at the same iterations')
            values.setdefault(variant, []).append(curves[name][1])
        panels[name] = {variant: (steps, np.stack(seeds, axis=1)) for variant, seeds in values.items()}
    return panels


def series_table(panels: Panels, seeds: Sequence[int]) -> str:
    """Formats the values at the last iteration as a Markdown table: a row per variant, a column per seed and for their mean."""
    columns = [*(f'seed {seed}' for seed in seeds), *(['mean'] if len(seeds) > 1 else [])]
    titles = [f'{name}, {column}' for name in panels for column in columns]
    first = next(iter(panels.values()))
    last_step = next(iter(first.values()))[0][-1]
    lines = [f'| at iteration {last_step:.0f} | ' + ' | '.join(titles) + ' |', '|---|' + '---:|' * len(titles)]
    for variant in first:
        last = [curves[variant][1][-1] for curves in panels.values()]
        cells = [f'{value:#.4g}' for values in last for value in [*values, values.mean()][: len(columns)]]
        lines.append(f'| {variant} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'
