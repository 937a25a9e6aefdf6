import numpy as np
import pytest

from mmsagan.visualization import curves_figure
from mmsagan.visualization.curves import moving_average
from mmsagan.visualization.figures import to_array, to_bytes

STEPS = np.arange(1, 61) * 1000.0


@pytest.fixture
def panels():
    return {
        'FID/fid': {'baseline': (STEPS, 100 / STEPS), 'TTUR': (STEPS[:9], 50 / STEPS[:9])},
        'loss': {'TTUR': (STEPS, np.sin(STEPS))},
    }


def test_a_panel_a_quantity_and_a_curve_a_run(panels):
    figure = curves_figure(panels)
    assert [axes.get_title() for axes in figure.axes] == ['FID/fid', 'loss']
    first, second = figure.axes
    assert [text.get_text() for text in first.get_legend().get_texts()] == ['baseline', 'TTUR']
    np.testing.assert_array_equal(first.lines[1].get_xydata(), np.transpose(panels['FID/fid']['TTUR']))
    assert second.lines[0].get_color() == first.lines[1].get_color() != first.lines[0].get_color(), 'a run keeps its colour'
    assert first.get_xlabel() == 'iterations' and first.xaxis.get_major_formatter()(500_000) == '500k'


def test_smoothing(panels):
    axes = curves_figure(panels, {'loss': 5}).axes
    raw, smooth = axes[1].lines
    np.testing.assert_array_equal(raw.get_ydata(), np.sin(STEPS))
    np.testing.assert_allclose(smooth.get_ydata()[10], np.sin(STEPS[8:13]).mean())
    assert len(axes[0].lines) == 2, 'the other panel is as it was'


def test_seeds_are_a_mean_and_a_range():
    values = np.stack([1 / STEPS, 3 / STEPS], axis=1)
    (axes,) = curves_figure({'FID/fid': {'baseline': (STEPS, values)}}, log_scale=['FID/fid']).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 2 / STEPS)
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(1 / 60_000) and heights.max() == pytest.approx(3 / 1000)
    assert axes.get_yscale() == 'log'


def test_a_logarithmic_axis_names_its_ticks_in_plain_numbers():
    figure = curves_figure({'FID': {'a': (STEPS, 10 / STEPS**0.3)}, 'loss': {'a': (STEPS, -STEPS)}}, log_scale=['FID'])
    fid, loss = figure.axes
    to_array(figure)
    shown = [tick.label1.get_text() for tick in fid.yaxis.get_major_ticks()]
    assert {'0.5', '1'} <= set(shown) and not any(tick.label1.get_text() for tick in fid.yaxis.get_minor_ticks())
    assert loss.get_yscale() == 'linear'


@pytest.mark.parametrize('name', ['$\\frac$', '$a_b^$', '_hidden', 'a_b'])
def test_names_are_shown_as_they_are(name):
    figure = curves_figure({name: {name: (STEPS, STEPS), 'other': (STEPS, STEPS)}})
    (axes,) = figure.axes
    to_array(figure)
    assert axes.get_title() == name and [text.get_text() for text in axes.get_legend().get_texts()] == [name, 'other']


@pytest.mark.parametrize('width', [1, 2, 5, 60, 100])
def test_moving_average_has_the_values_that_there_are(width):
    values = np.random.default_rng(0).normal(size=60)
    result, width = moving_average(values, width), min(width, 60)
    assert result.shape == (60,)
    for place in range(60):
        first = place - width // 2
        expected = values[max(first, 0) : first + width].mean()
        assert result[place] == pytest.approx(expected)


@pytest.mark.parametrize('count, shape', [(3, (390, 1560)), (4, (780, 1040))])
def test_size(count, shape):
    figure = curves_figure({str(number): {'run': (STEPS, STEPS)} for number in range(count)})
    assert len(figure.axes) == count and to_array(figure).shape == (*shape, 3)


@pytest.mark.parametrize('file_type, start', [('png', b'\x89PNG'), ('pdf', b'%PDF'), ('svg', b'<?xml')])
def test_file_types(panels, file_type, start):
    assert to_bytes(curves_figure(panels), file_type).startswith(start)
