"""A page about a training: how far it is, how good, what was trained, and where everything is."""

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
from mmengine import __version__ as mmengine_version

from mmsagan import __version__
from mmsagan.analysis.hardware import describe_device
from mmsagan.engine.config_changes import MISSING, Changes, as_code
from mmsagan.engine.logs import is_result
from mmsagan.evaluation.evaluator import HELD_OUT
from mmsagan.utils.text import duration
from mmsagan.visualization import curves_figure
from mmsagan.visualization.curves import Curve
from mmsagan.visualization.figures import to_bytes

NAME, CURVES = 'summary.md', 'curves.png'
_LAST = 10  # evaluations in the table
_MOST_PANELS = 6
_SMOOTH = 50  # a curve of losses is a mean of a fiftieth of its points


@dataclass
class Best:
    """The best result of a training.

    Attributes:
        rule: ``'less'`` or ``'greater'``, which is better.
        value: The result.
        iteration: When.
        checkpoint: The file that is kept of it; None if there is none.
    """

    rule: str
    value: float
    iteration: int
    checkpoint: Path | None = None


@dataclass
class Summary:
    """What there is to say of a training.

    Attributes:
        title: Its name.
        state: A sentence in Markdown.
        notes: Further sentences, on what has gone wrong.
        curves: By name, all that was logged.
        best: By the name of a result.
        pictures: By name, the iteration and the file of the newest one.
        bases: The files that the config inherits, as it writes them; None if it is not known.
        of_file: What the config changes of them.
        of_command_line: What the command line changes of the config.
        files: What a file is, and the file.
        machine: On what it ran.
    """

    title: str
    state: str
    notes: list[str] = field(default_factory=list)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    best: Mapping[str, Best] = field(default_factory=dict)
    pictures: Mapping[str, tuple[int, Path]] = field(default_factory=dict)
    bases: Sequence[str] | None = None
    of_file: Changes = field(default_factory=dict)
    of_command_line: Changes = field(default_factory=dict)
    files: Sequence[tuple[str, Path]] = ()
    machine: str = ''

    def to_markdown(self, folder: Path) -> str:
        """The page.

        Args:
            folder: Where it lies: links and pictures are relative to it.
        """
        parts = [f'# {_escape(self.title)}', self.state, *self.notes, *self._scores(folder), *self._pictures(folder)]
        parts += [*self._config(), '## Files', '\n'.join(f'* {what}: {_link(path, folder)}' for what, path in self.files)]
        return '\n\n'.join([*parts, '## Machine', self.machine]) + '\n'

    def _scores(self, folder: Path) -> list[str]:
        parts = []
        if self.best:
            words = dict(less='lowest', greater='highest')
            rows = [
                (name, words[best.rule], f'{best.value:.4f}', str(best.iteration), _link(best.checkpoint, folder))
                for name, best in self.best.items()
            ]
            parts.append(_table(('best', '', 'score', 'at iteration', 'checkpoint'), rows, '--rr-'))
        if any(is_result(name) for name in self.curves):
            parts.append(evaluations_table(self.curves, self.best))
        if self.curves:
            parts.append(f'![curves]({CURVES})')
        return ['## Scores' if self.best else '## Curves', *parts] if parts else []

    def _pictures(self, folder: Path) -> list[str]:
        parts = []
        for name, (iteration, path) in self.pictures.items():
            parts += [f'{_escape(name)}, iteration {iteration}:', f'!{_link(path, folder, name)}']
        return ['## Samples', *parts] if parts else []

    def _config(self) -> list[str]:
        if self.bases is None:
            return []
        parts = ['## Config']
        if self.bases:
            parts.append(f'It inherits {", ".join(f"`{name}`" for name in self.bases)}, and changes:')
            parts.append(_changes_table(self.of_file, 'inherited') if self.of_file else 'nothing.')
        else:
            parts.append('It inherits nothing.')
        if self.of_command_line:
            parts += ['The command line changes:', _changes_table(self.of_command_line, 'in the config')]
        return parts


def evaluations_table(curves: Mapping[str, Curve], best: Mapping[str, Best]) -> str:
    """The last evaluations, the best ones in bold, and the results of held-out real images if there are any.

    Args:
        curves: By name.
        best: By name.
    """
    names = [name for name in curves if is_result(name) and not name.startswith(HELD_OUT)]
    columns = {name: dict(zip(curves[name][0].astype(int).tolist(), curves[name][1].tolist())) for name in names}
    iterations = sorted({iteration for column in columns.values() for iteration in column})[-_LAST:]

    def cell(name: str, iteration: int) -> str:
        value = columns[name].get(iteration)
        text = '' if value is None else f'{value:.4f}'
        return f'**{text}**' if text and name in best and best[name].iteration == iteration else text

    rows = [(str(iteration), *(cell(name, iteration) for name in names)) for iteration in iterations]
    real = [curves.get(HELD_OUT + name) for name in names]
    if any(curve is not None for curve in real):
        rows.append(('held-out real', *('' if curve is None else f'{curve[1][-1]:.4f}' for curve in real)))
    return _table(('iteration', *names), rows, 'r' * (len(names) + 1))


def best_of(curve: Curve, rule: str) -> tuple[int, float] | None:
    """The iteration and the value of a curve's best point, the first of several equal ones; None if all are NaN."""
    iterations, values = curve
    if np.isnan(values).all():
        return None
    place = int(np.nanargmin(values) if rule == 'less' else np.nanargmax(values))
    return int(iterations[place]), float(values[place])


def curves_picture(curves: Mapping[str, Curve]) -> bytes | None:
    """Results, losses and logits over the iterations, as the content of a PNG file; None if there is nothing to draw.

    Args:
        curves: By name, all that was logged.
    """
    results = [name for name in curves if is_result(name) and not name.startswith(HELD_OUT) and not name.endswith('_std')]
    real = {name: curves[HELD_OUT + name] for name in results if HELD_OUT + name in curves}
    panels = {
        name: {'samples': curves[name], **({'held-out real': real[name]} if name in real else {})}
        for name in results[: _MOST_PANELS - 2]
    }
    for title, names in (
        ('losses', dict(loss_disc='D', loss_gen='G')),
        ('logits', dict(logits_real='real', logits_fake='fake')),
    ):
        panels[title] = {short: curves[name] for name, short in names.items() if name in curves}
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return None
    longest = {title: max(len(steps) for steps, _ in lines.values()) for title, lines in panels.items()}
    smooth = {title: max(1, longest[title] // _SMOOTH) for title in ('losses', 'logits') if title in panels}
    return to_bytes(curves_figure(panels, smooth), 'png')


def machine_line(device, processes: int, seed: int | None) -> str:
    """On what, with which versions and with which seed a training runs."""
    versions = f'Python {sys.version.split()[0]}, MMEngine {mmengine_version}, MMSAGAN {__version__}'
    return f'{describe_device(device)}, {processes} process{"" if processes == 1 else "es"}; {versions}; seed {seed}.'


def progress_sentence(iteration: int, total: int, seconds: float, eta: float | None, speed: float | None) -> str:
    """How far a training is, as of now."""
    left = f', {duration(eta)} left' if eta is not None else ''
    at = f' at {speed:.0f} images/s' if speed is not None and left else ''
    share = f'{100 * iteration / total:.0f} %'
    now = time.strftime('%Y-%m-%d %H:%M:%S')
    return f'**Training**: iteration {iteration} of {total} ({share}) after {duration(seconds)}{left}{at}. As of {now}.'


def _changes_table(changes: Changes, before: str) -> str:
    rows = [
        (f'`{key}`', *('' if value is MISSING else _code(as_code(value)) for value in pair)) for key, pair in changes.items()
    ]
    return _table(('key', before, 'here'), rows, '---', escape=False)


def _code(text: str) -> str:
    """A code span in a table's cell."""
    return f'`{text}`'.replace('|', '\\|').replace('\n', ' ') if '`' not in text else _escape(text)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], columns: str, escape: bool = True) -> str:
    """A Markdown table; ``columns`` has an 'r' for each that is aligned to the right."""
    titles = [_escape(title) for title in titles] if escape else titles
    marks = ['---:' if column == 'r' else '---' for column in columns]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in (titles, marks, *rows))


def _link(path: Path | None, folder: Path, name: str | None = None) -> str:
    if path is None:
        return ''
    target = Path(os.path.relpath(path, folder))
    inside = '..' not in target.parts
    target = target if inside else Path(os.path.abspath(path))
    return f'[{_escape(name or target.as_posix())}]({quote(target.as_posix())})'


def _escape(text: str) -> str:
    for sign in '\\|*`[]<>':
        text = text.replace(sign, f'\\{sign}')
    return ' '.join(text.split())
