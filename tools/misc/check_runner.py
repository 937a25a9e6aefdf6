"""Runs a registry of checks within a given time, in a process that is replaced if it dies or hangs, and reports the results."""

import gc
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch

from mmsagan.utils import register_all_modules
from mmsagan.utils.processes import end_with_parent

CHECKS: dict[str, SimpleNamespace] = {}  # in the order of their importance


class Skipped(Exception):
    """A check cannot be made here; the message is the reason."""


class Setting(NamedTuple):
    """What the checks get. On a CPU, networks are narrow, and batches and trainings small."""

    device: str
    folder: Path
    fixtures: Path

    @property
    def small(self) -> bool:
        return self.device == 'cpu'


def check(name: str, seconds: int, later: bool = False, needs_cuda: str = '', /, **arguments) -> Callable:
    """Registers a function of a Setting that returns figures, or raises an exception if the check has failed.

    ``seconds`` is what it takes on a GPU. Checks for ``later`` come after all others. ``needs_cuda`` is what needs it.
    """

    def register(function: Callable) -> Callable:
        run = partial(function, **arguments)
        CHECKS[name] = SimpleNamespace(name=name, seconds=seconds, later=later, needs_cuda=needs_cuda, run=run)
        return function

    return register


def within(limit: float, **figures: float) -> dict:
    """Returns the figures, none of which may exceed the limit."""
    for name, figure in figures.items():
        assert figure <= limit, f'{name} is {figure:.3g}, more than {limit:g}'
    return figures


def run(each: SimpleNamespace, setting: Setting, until: float) -> dict:
    """Runs a check, without the settings of earlier ones, and returns its row."""
    started, row = time.time(), dict(check=each.name, result='passed')
    print(f'\n----- {each.name}', flush=True)
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    try:
        if each.needs_cuda and setting.small:
            raise Skipped(f'it needs CUDA: {each.needs_cuda}')
        if started + each.seconds > until:
            raise Skipped(f'the time is over: it takes about {each.seconds} s')
        torch.manual_seed(0)
        figures = each.run(setting)
        shown = {key: value for key, value in figures.items() if not isinstance(value, dict)}
        texts = [f'{key} {value:.4g}' if isinstance(value, float) else f'{key} {value}' for key, value in shown.items()]
        row.update(figure=', '.join(texts), figures=figures)
    except Skipped as reason:
        row.update(result='skipped', figure=str(reason))
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        message = ' '.join(f'{type(error).__name__}: {error}'.split())
        row.update(result='failed', figure=message[:500], traceback=traceback.format_exc())
    return dict(row, seconds=time.time() - started)


def work(connection, names: list[str], setting: Setting, log: str, until: float) -> None:
    """Runs checks and sends their rows, until the device cannot be used any more."""
    os.setsid()  # so that what a check starts can be ended with it
    end_with_parent()
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    register_all_modules()
    for name in names:
        row = run(CHECKS[name], setting, until)
        connection.send(row)
        if row['result'] == 'failed':
            try:
                torch.ones(1, device=setting.device).item()
            except RuntimeError:  # after some errors of CUDA every call fails
                return


def run_all(names: list[str], setting: Setting, log: str, until: float) -> Iterator[dict]:
    """Runs checks in a process of its own, or in another one if that dies or hangs; yields a row for each."""
    context = multiprocessing.get_context('spawn')
    while names:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(sender, names, setting, log, until))
        process.start()
        sender.close()
        while names:
            started = time.time()
            limit = max(30, min(60 + 4 * CHECKS[names[0]].seconds, until + 15 - started))
            row = dict(check=names[0], result='skipped' if started + limit >= until else 'failed')
            try:
                row = receiver.recv() if receiver.poll(limit) else dict(row, figure=f'no result within {limit:.0f} s')
            except EOFError:
                process.join()
                if process.exitcode == 0:  # it has left after a failure
                    break
                row.update(result='failed', figure=f'its process has ended with exit code {process.exitcode}')
            yield dict(dict(seconds=time.time() - started), **row)
            names = names[1:]
            if 'seconds' not in row:
                break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def markdown(report: dict) -> str:
    """The report as tables."""
    versions = ', '.join(f'{name} {version}' for name, version in report['versions'].items() if version)
    lines = [
        f'# GPU check, {report["date"]}',
        '',
        report['device'],
        '',
        versions,
        '',
        '| check | result | figure |',
        '|---|---|---|',
    ]
    for row in report['checks']:
        lines.append(f'| {row["check"]} | {row["result"]} | {row["figure"].replace("|", "/")} |')
    for row in report['checks']:
        if rows := row.get('figures', {}).get('rows'):
            columns = list(next(iter(rows.values())))
            lines += ['', f'| {row["check"]} | {" | ".join(columns)} |', '|---' * (len(columns) + 1) + '|']
            lines += [
                f'| {kind} | {" | ".join(f"{each.get(key, math.nan):.4g}" for key in columns)} |' for kind, each in rows.items()
            ]
    return '\n'.join(lines) + '\n'
