import json
import math

import numpy as np
import pytest

from mmsagan.apis.train import train_from_config
from mmsagan.engine.logs import find_names, is_result, read_curves, run_name
from mmsagan.errors import ConfigError, DataError


def training(step: int, **values) -> dict:
    return dict(loss_gen=0.5, time=0.3, **values, iter=step, step=step)


def write_run(work_dir, time: str, records: list, end: str = '\n'):
    """Writes a log as MMEngine's LocalVisBackend does."""
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
    np.testing.assert_array_equal(curves['F/fid'], [[4], [4]], 'what the newer run has done again')


def test_a_run_that_goes_on_and_one_that_diverged(tmp_path):
    write_run(tmp_path, '20260101_000000', [training(1), training(2, loss_disc=math.nan)], end='\n{"loss_g')
    curves = read_curves(tmp_path)
    assert len(curves['loss_gen'][0]) == 2 and np.isnan(curves['loss_disc'][1][0])


def test_what_a_training_writes_can_be_read(tiny_run):
    cfg = tiny_run(max_iters=3)
    cfg.val_evaluator = cfg.test_evaluator = None
    train_from_config(cfg)
    steps, losses = read_curves(cfg.work_dir)['loss_disc']
    assert steps.tolist() == [1, 2, 3] and np.isfinite(losses).all()


@pytest.mark.parametrize(
    'content, message',
    [
        ('{"step": 1}\nnothing\n', 'line 2: not a line of JSON'),
        ('{"FID/fid": 3.0}\n', 'line 1: no entry of a log'),
        ('[1]\n', 'line 1: no entry of a log'),
        ('', 'the log is empty'),
        ('{"step": true}\n', 'line 1: no entry of a log'),
        ('[' * 100_000 + '\n', 'line 1: not a line of JSON'),
        ('{"step": 1, "loss": ' + '9' * 400 + '}\n', 'too large'),
    ],
)
def test_files_that_are_no_logs(tmp_path, content, message):
    (tmp_path / 'scalars.json').write_text(content)
    with pytest.raises(DataError, match=message):
        read_curves(tmp_path / 'scalars.json')


def test_no_log_at_all(tmp_path):
    for path in (tmp_path, tmp_path / 'gone'):
        with pytest.raises(DataError, match='no log; give a work dir'):
            read_curves(path)
    (tmp_path / '20261122_200000').mkdir()
    (tmp_path / '20261122_200000' / '20261122_200000.log').touch()
    with pytest.raises(DataError, match='ended before its first line of numbers, see default_hooks.logger.interval'):
        read_curves(tmp_path)


NAMES = ['loss_gen', 'time', 'FID-digits/fid', 'FID-orig/fid', 'IS/is', 'IS/is_std', 'held_out/FID-digits/fid']


@pytest.mark.parametrize(
    'key, expected',
    [
        ('loss_gen', ['loss_gen']),
        ('FID', ['FID-digits/fid', 'FID-orig/fid']),
        ('fid-DIGITS', ['FID-digits/fid']),
        ('FID-orig/fid', ['FID-orig/fid']),
        ('is', ['IS/is', 'IS/is_std']),
        ('is_std', ['IS/is_std']),
        ('held_out/FID-digits', ['held_out/FID-digits/fid']),
    ],
)
def test_what_a_key_means(key, expected):
    assert find_names(key, NAMES) == expected


@pytest.mark.parametrize('key', ['FI', 'loss', 'digits', ''])
def test_an_unknown_key_names_what_is_there(key):
    with pytest.raises(ConfigError, match=f"no '{key}' in the logs; there are loss_gen, time, FID-digits/fid"):
        find_names(key, NAMES)


def test_results_are_told_from_losses():
    assert [is_result(name) for name in NAMES] == [False, False, True, True, True, True, True]


@pytest.mark.parametrize('path', ['baseline', 'baseline/20260101_000000/vis_data/scalars.json', 'baseline.json'])
def test_a_run_is_called_like_its_work_dir(tmp_path, path):
    assert run_name(tmp_path / path) == 'baseline'
