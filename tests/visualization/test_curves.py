"""Reading logs, and drawing them."""

import json
import math

import numpy as np
import pytest

from mmsagan.errors import ConfigError, DataError
from mmsagan.visualization import curves_figure
from mmsagan.visualization.curves import find_names, read_curves, tradeoff_figure
from mmsagan.visualization.figures import to_array, to_bytes

STEPS = np.arange(1, 61) * 1000.0
NAMES = ['loss_gen', 'time', 'FID-digits/fid', 'FID-orig/fid', 'IS/is', 'IS/is_std', 'held_out/FID-digits/fid']


def training(step: int, **values) -> dict:
    return dict(loss_gen=0.5, time=0.3, **values, iter=step, step=step)


def write_run(work_dir, time: str, records: list, end: str = '\n'):
    file = work_dir / time / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(map(json.dumps, records)) + end)
    return file


def test_losses_and_results_each_at_its_iterations(tmp_path):
    file = write_run(tmp_path, '20260101_000000', [training(1), training(2), {'F/fid': 9.5, 'time': 7.0, 'step': 2}])
    for path in (tmp_path, file, file.parent.parent):
        curves = read_curves(path)
        assert set(curves) == {'loss_gen', 'time', 'F/fid'}
        np.testing.assert_array_equal(curves['loss_gen'], [[1, 2], [0.5, 0.5]])
        np.testing.assert_array_equal(curves['F/fid'], [[2], [9.5]])
        np.testing.assert_array_equal(curves['time'][1], [0.3, 0.3], "and not the evaluation's")


def test_a_resumed_training_is_one_curve(tmp_path):
    write_run(tmp_path, '20260102_000000', [training(3, x=30), training(4, x=40), {'F/fid': 4.0, 'step': 4}])
    write_run(tmp_path, '20260101_235959', [training(step, x=step) for step in (1, 2, 3)] + [{'F/fid': 3.0, 'step': 3}])
    write_run(tmp_path, '20260103_000000', [], end='')
    curves = read_curves(tmp_path)
    np.testing.assert_array_equal(curves['x'], [[1, 2, 3, 4], [1, 2, 30, 40]])
    np.testing.assert_array_equal(curves['F/fid'], [[4], [4]], 'what the later run has done again')


def test_lines_that_are_cut_off_and_values_that_are_not_finite(tmp_path):
    file = write_run(tmp_path, '20260101_000000', [training(1)], end='\n{"loss_g\n')
    with file.open('a') as log:
        log.write(json.dumps(training(2, loss_disc=math.nan)) + '\n{"loss_g')
    curves = read_curves(tmp_path)
    assert curves['loss_gen'][0].tolist() == [1, 2] and np.isnan(curves['loss_disc'][1][0])


@pytest.mark.parametrize(
    'content', [b'', b'nothing\n[1]\n3\n{"FID/fid": 3.0}\n', b'[' * 100_000, b'{"step": ' + b'9' * 400 + b'}', b'\xff']
)
def test_files_that_are_no_logs(tmp_path, content):
    (tmp_path / 'scalars.json').write_bytes(content)
    for path in (tmp_path / 'scalars.json', tmp_path, tmp_path / 'gone'):
        with pytest.raises(DataError, match=str(path)):
            read_curves(path)


def test_what_a_key_means():
    assert find_names('FID', NAMES) == ['FID-digits/fid', 'FID-orig/fid'] and find_names('is', NAMES) == ['IS/is', 'IS/is_std']
    with pytest.raises(ConfigError, match=', '.join(NAMES)):
        find_names('loss', NAMES)


@pytest.fixture
def panels():
    return {
        'FID/fid': {'$\\frac$': (STEPS, 100 / STEPS), 'TTUR': (STEPS[:9], 50 / STEPS[:9])},
        'loss': {'TTUR': (STEPS, np.sin(STEPS))},
    }


def test_one_panel_per_quantity_and_one_curve_per_run(panels):
    figure = curves_figure(panels, {'loss': 5})
    assert to_bytes(figure, 'svg').startswith(b'<?xml') and to_array(figure).shape == (390, 1040, 3)
    assert [axes.get_title() for axes in figure.axes] == ['FID/fid', 'loss']
    first, second = figure.axes
    assert [text.get_text() for text in first.get_legend().get_texts()] == ['$\\frac$', 'TTUR']
    np.testing.assert_array_equal(first.lines[1].get_xydata(), np.transpose(panels['FID/fid']['TTUR']))
    raw, smooth = second.lines
    assert smooth.get_color() == first.lines[1].get_color() != first.lines[0].get_color(), 'a run keeps its colour'
    np.testing.assert_array_equal(raw.get_ydata(), np.sin(STEPS))
    np.testing.assert_allclose(smooth.get_ydata()[10], np.sin(STEPS[8:13]).mean())
    assert first.xaxis.get_major_formatter()(500_000) == '500k'


def test_seeds_are_a_mean_and_a_range_on_a_logarithmic_axis():
    values = np.stack([1 / STEPS**0.3, 3 / STEPS**0.3], axis=1)
    figure = curves_figure({'FID': {'a': (STEPS, values)}, 'loss': {'a': (STEPS, -STEPS)}}, log_scale=['FID'])
    fid, loss = figure.axes
    np.testing.assert_allclose(fid.lines[0].get_ydata(), 2 / STEPS**0.3)
    heights = fid.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(values.min()) and heights.max() == pytest.approx(values.max())
    to_array(figure)
    shown = [tick.label1.get_text() for tick in fid.yaxis.get_major_ticks()]
    assert fid.get_yscale() == 'log' and '0.1' in shown and loss.get_yscale() == 'linear'


def test_the_trade_off_of_truncations():
    scores = {'0.5': (120.0, 9.0), '1.0': (100.0, 8.0)}
    results = {f'truncation_{t}/{name}': v for t, pair in scores.items() for name, v in zip(('IS/is', 'FID/fid'), pair)}
    axes = tradeoff_figure(dict(results, other=1.0)).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), list(scores.values()))
    assert [text.get_text() for text in axes.texts] == list(scores)
    for incomplete in ({}, {'truncation_0.5/IS/is': 3.0}):
        with pytest.raises(ConfigError, match='truncations'):
            tradeoff_figure(incomplete)
