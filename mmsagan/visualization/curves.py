"""What a training logged, as curves over its iterations, and figures of them as in the paper's figure 3."""

import json
from collections.abc import Collection, Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

from mmsagan.errors import ConfigError, DataError
from mmsagan.visualization.figures import pixel_figure, printable

Curve = tuple[np.ndarray, np.ndarray]  # iterations and values
HELD_OUT, TRUNCATION = 'held_out/', 'truncation_'
_LOG = 'vis_data/scalars.json'
_WIDTH, _HEIGHT = 520, 390  # pixels of a panel


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Reads what MMEngine's ``LocalVisBackend`` wrote: losses and other numbers of a training, and results of evaluations.

    The path is a work dir, whose runs are joined (the later one counts where two overlap), the folder of one run, or a file
    ``scalars.json``. Returns iterations (K,) and values (K,), float64, by name; raises a DataError if there are none.
    """
    path = Path(path)
    alone = [file for file in (path, path / _LOG) if file.is_file()]
    files = alone or sorted(path.glob(f'*/{_LOG}'))  # folders are named by time
    joined: list[dict] = []
    for file in files:
        records = []
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                record = {name: float(value) for name, value in json.loads(line).items() if isinstance(value, (int, float))}
            except (ValueError, AttributeError, OverflowError, RecursionError):
                continue
            if 'iter' not in record:  # of an evaluation, whose times are those of a batch of samples
                record = {name: value for name, value in record.items() if name not in ('time', 'data_time')}
            if 'step' in record:
                records.append(record)
        first = min((record['step'] for record in records), default=np.inf)
        joined = [record for record in joined if record['step'] < first] + records
    if not joined:
        raise DataError(f'{path}: no log with numbers; pass a work dir, which holds <time>/{_LOG}, or such a file')
    names = dict.fromkeys(name for record in joined for name in record if name not in ('step', 'iter', 'epoch'))
    points = {name: [(record['step'], record[name]) for record in joined if name in record] for name in names}
    return {name: tuple(np.array(pairs).T) for name, pairs in points.items()}


def find_names(key: str, names: Sequence[str]) -> list[str]:
    """Finds the logged names that a key means: the name itself, or all names that contain it between slashes.

    ``FID`` means ``FID-digits/fid``, and so does ``fid-digits``. Results of held-out real images are found only by keys that
    begin with ``held_out/``. Without any, a ConfigError lists the names.
    """
    if key in names:
        return [key]
    candidates = [name for name in names if name.startswith(HELD_OUT) == key.startswith(HELD_OUT)]
    found = [name for name in candidates if f'/{key}/'.lower() in f'/{name}/'.lower()]
    if not found:
        raise ConfigError(f'no {key!r} in the logs; there are {", ".join(names)}')
    return found


def is_result(name: str) -> bool:
    """Whether a logged name is a result of an evaluation: ``<metric>/<result>``."""
    return '/' in name


def tradeoff_figure(results: Mapping[str, float]) -> Figure:
    """Draws FID over IS, which are a ConfigError if missing, from an evaluator's results at several truncations."""
    points: dict[str, dict[str, float]] = {}
    for name, value in results.items():
        truncation, _, result = name.partition('/')
        if truncation.startswith(TRUNCATION):
            points.setdefault(truncation.removeprefix(TRUNCATION), {})[result] = value
    names = list(next(iter(points.values()), {}))
    distances, scores = ([name for name in names if name.endswith(ending)] for ending in ('/fid', '/is'))
    if not distances or not scores:
        raise ConfigError(f'a figure of the trade-off needs several truncations, and IS and FID; there are {list(results)}')
    figure = pixel_figure(_WIDTH, _HEIGHT)
    figure.set_layout_engine('constrained')
    axes = figure.subplots()
    for name in distances:
        axes.plot(*([each[key] for each in points.values()] for key in (scores[0], name)), marker='o', label=printable(name))
        for truncation, each in points.items():
            place = each[scores[0]], each[name]
            axes.annotate(truncation, place, xytext=(5, 5), textcoords='offset points', fontsize=9)
    axes.set_xlabel(scores[0], parse_math=False)
    axes.set_title('by truncation of the noise')
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure


def curves_figure(
    panels: Mapping[str, Mapping[str, Curve]], smooth: Mapping[str, int] = {}, log_scale: Collection[str] = ()
) -> Figure:
    """Draws one panel per quantity, with one curve per run, which has the same colour in all panels.

    ``panels`` has iterations (K,) and values (K,) by quantity and by run; or values (K, S) of S seeds, whose mean is drawn and
    whose range is shaded. ``smooth`` gives the number of values averaged into a point, with the values themselves drawn faintly
    behind them; ``log_scale`` are quantities drawn on a logarithmic axis.
    """
    columns = len(panels) if len(panels) <= 3 else ceil(sqrt(len(panels)))
    rows = -(-len(panels) // columns)
    figure = pixel_figure(columns * _WIDTH, rows * _HEIGHT)
    figure.set_layout_engine('constrained')
    all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
    runs = list(dict.fromkeys(run for curves in panels.values() for run in curves))
    for axes, (name, curves) in zip(all_axes, panels.items()):
        count = smooth.get(name, 1)
        for run, (steps, values) in curves.items():
            colour, marker = f'C{runs.index(run) % 10}', 'o' if len(steps) <= 40 and count <= 1 else None
            if values.ndim == 2:
                axes.fill_between(steps, values.min(1), values.max(1), color=colour, alpha=0.15, linewidth=0)
                values = values.mean(1)
            if count > 1:
                axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
                window = np.ones(min(count, len(values)))
                # At the ends, there are fewer values to average.
                values = np.convolve(values, window, 'same') / np.convolve(np.ones(len(values)), window, 'same')
            axes.plot(steps, values, color=colour, marker=marker, markersize=3.5, linewidth=1.6, label=printable(run))
        axes.set_title(name, parse_math=False)
        axes.set_xlabel('iterations')
        axes.xaxis.set_major_formatter(EngFormatter(sep=''))
        if name in log_scale:
            axes.set_yscale('log')
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        for text in axes.legend(fontsize=9).get_texts():
            text.set_parse_math(False)
    for axes in all_axes[len(panels) :]:
        axes.remove()
    return figure
