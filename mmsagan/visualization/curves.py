"""Curves of several runs, as in the paper's figure 3."""

from collections.abc import Collection, Mapping
from math import ceil, sqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

from mmsagan.visualization.figures import pixel_figure

# Iterations and values.
Curve = tuple[np.ndarray, np.ndarray]

_WIDTH, _HEIGHT = 520, 390  # pixels of a panel


def curves_figure(
    panels: Mapping[str, Mapping[str, Curve]], smooth: Mapping[str, int] = {}, log_scale: Collection[str] = ()
) -> Figure:
    """Draws one panel a quantity, and in each one curve a run, which has the same colour everywhere.

    Args:
        panels: By the quantity's name, and in it by the run's, iterations (K,) and values (K,); or values (K, S) of S seeds,
            whose mean is the curve and whose range is shaded.
        smooth: By the quantity's name, how many values are averaged into a point (1 where it is not named); the values
            themselves then stand faintly behind the curve.
        log_scale: The names of quantities that are drawn on a logarithmic axis.

    Example:
        >>> steps = np.arange(10)
        >>> figure = curves_figure({'FID': {'baseline': (steps, 1 / (1 + steps)), 'TTUR': (steps, 1 / (2 + steps))}})
    """
    columns = len(panels) if len(panels) <= 3 else ceil(sqrt(len(panels)))
    rows = -(-len(panels) // columns)
    figure = pixel_figure(columns * _WIDTH, rows * _HEIGHT)
    figure.set_layout_engine('constrained')
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    runs = list(dict.fromkeys(run for curves in panels.values() for run in curves))
    for place, (name, curves) in zip(axes, panels.items()):
        drawn = [_draw(place, curve, f'C{runs.index(run) % 10}', smooth.get(name, 1)) for run, curve in curves.items()]
        place.set_title(name, parse_math=False)
        place.set_xlabel('iterations')
        place.xaxis.set_major_formatter(EngFormatter(sep=''))
        if name in log_scale:
            place.set_yscale('log')
            place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            place.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
            place.yaxis.set_minor_formatter(NullFormatter())
        place.grid(alpha=0.3)
        # Named here, since matplotlib leaves out labels that begin with an underscore.
        legend = place.legend(drawn, [''] * len(drawn), fontsize=9)
        for text, run in zip(legend.get_texts(), curves):
            text.set_parse_math(False)
            text.set_text(run)
    for place in axes[len(panels) :]:
        place.remove()
    return figure


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the ``width`` values around each (K,); at the ends, of those that there are."""
    window = np.ones(min(width, len(values)))
    return np.convolve(values, window, 'same') / np.convolve(np.ones(len(values)), window, 'same')


def _draw(axes: Axes, curve: Curve, colour: str, smooth: int) -> Line2D:
    steps, values = curve
    marker = 'o' if len(steps) <= 40 else None
    if values.ndim == 2:
        axes.fill_between(steps, values.min(1), values.max(1), color=colour, alpha=0.15, linewidth=0)
        values = values.mean(1)
    if smooth > 1:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        values, marker = moving_average(values, smooth), None
    return axes.plot(steps, values, color=colour, marker=marker, markersize=3.5, linewidth=1.6)[0]
