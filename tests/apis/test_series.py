import json
from pathlib import Path

import numpy as np
import pytest

from mmsagan.apis import series
from mmsagan.apis.series import plan_series, series_curves, series_table, train_series
from mmsagan.errors import ConfigError, DataError

ROOT = Path(__file__).parent.parent.parent
# Stands for tools/train.py: logs an evaluation at every fourth iteration, and notes how it was called.
TRAIN = """
import json, os, runpy, sys, time
cfg, work_dir = runpy.run_path(sys.argv[1]), sys.argv[sys.argv.index('--work-dir') + 1]
seed, behaviour = cfg['randomness']['seed'], cfg.get('behaviour', '')
if 'slow' in behaviour:
    time.sleep(0.5)
log = os.path.join(work_dir, f'2026010{len(os.listdir(work_dir)) if os.path.isdir(work_dir) else 0}_000000', 'vis_data')
os.makedirs(log)
with open(os.path.join(log, 'scalars.json'), 'w') as file:
    for step in range(4, cfg['train_cfg']['max_iters'] + 1, 4):
        file.write(json.dumps({'F/fid': seed * 100 / step, 'step': step}) + chr(10))
json.dump([sys.argv[2:], os.environ['OMP_NUM_THREADS']], open(os.path.join(work_dir, 'call.json'), 'w'))
print('trained')
sys.exit('bad' in behaviour)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/train.py').write_text(TRAIN)
    monkeypatch.setattr(series, 'shipped_root', lambda: tmp_path)

    def config(name: str, contents: str = '') -> Path:
        path = tmp_path / f'x_{name}_b64.py'
        path.write_text(f"_base_ = '{ROOT}/configs/sagan/sagan_32_mnist_b32x1.py'\n{contents}\n")
        return path

    return config


@pytest.fixture
def plan(write, tmp_path):
    def runs(max_iters: int = 8, seeds=(1, 3), **options):
        options = {'train_cfg.val_interval': 4, **options}
        return plan_series([write('a'), write('b')], seeds, tmp_path / 'series', max_iters, options)

    return runs


def test_every_config_with_every_seed(plan, monkeypatch):
    monkeypatch.setattr(series.os, 'cpu_count', lambda: 6)
    runs = plan()
    assert [(run.variant, run.seed) for run in runs] == [('a', 1), ('b', 1), ('a', 3), ('b', 3)]
    train_series(runs, 2)
    for run in runs:
        arguments, threads = json.loads((run.folder / 'run/call.json').read_text())
        assert arguments == ['--work-dir', str(run.folder / 'run'), '--resume'] and threads == '3'
        assert (run.folder / 'output.txt').read_text() == 'trained\n'

    panels = series_curves(runs, ['FID'])
    steps, values = panels['F/fid']['b']
    assert list(panels) == ['F/fid'] and list(panels['F/fid']) == ['a', 'b']
    np.testing.assert_array_equal(steps, [4, 8])
    np.testing.assert_array_equal(values, [[25, 75], [12.5, 37.5]])
    title, rule, *rows = series_table(panels, [1, 3]).splitlines()
    assert title == '| at iteration 8 | F/fid, seed 1 | F/fid, seed 3 | F/fid, mean |'
    assert rule == '|---|---:|---:|---:|' and rows == ['| a | 12.50 | 37.50 | 25.00 |', '| b | 12.50 | 37.50 | 25.00 |']
    assert series_table(series_curves(runs[:2], ['FID']), [1]).splitlines()[2] == '| a | 12.50 |'

    (log,) = runs[0].folder.glob('run/*/vis_data/scalars.json')
    log.write_text(log.read_text().splitlines(keepends=True)[1])
    with pytest.raises(DataError, match='F/fid'):
        series_curves(runs, ['fid'])


def test_a_series_can_be_resumed_and_extended(plan):
    first, *rest = plan()
    train_series([first])
    (first.folder / 'run/call.json').unlink()
    train_series([first, *rest])
    assert not (first.folder / 'run/call.json').exists() and all(run.is_finished() for run in rest)

    assert not any(run.is_finished() for run in plan(12))
    train_series(plan(12))
    for length in (12, 8):
        steps, values = series_curves(plan(length), ['FID'])['F/fid']['a']
        assert steps[-1] == length and values[-1].tolist() == [100 / length, 300 / length], 'the values at its own end'
    assert all(run.is_finished() for run in plan(8, seeds=(3,)))
    with pytest.raises(ConfigError, match=r'a, seed 1: .*config.py'):
        plan(**{'train_dataloader.batch_size': 64})


@pytest.mark.parametrize('jobs, behaviours', [(1, ['bad', '', '']), (2, ['slow', '', 'bad', 'slow', '', ''])])
def test_after_a_failure_no_training_is_started(write, tmp_path, jobs, behaviours):
    configs = [write(f'c{number}', f'behaviour = {text!r}') for number, text in enumerate(behaviours)]
    runs = plan_series(configs, [1], tmp_path / 'series', 500)
    with pytest.raises(ConfigError, match=r'c\d, seed 1: .*exit code 1; .*output.txt'):
        train_series(runs, jobs)
    started = [run.folder.exists() for run in runs]
    assert not any(started[behaviours.index('bad') + jobs :]) and started[behaviours.index('bad')]
    assert all(run.is_finished() for run, ran in zip(runs, started) if ran and 'bad' not in run.cfg.behaviour)


@pytest.mark.parametrize(
    'contents, key',
    [
        ('train_cfg = dict(max_iters=90, val_interval=40)', 'val_interval=40'),
        ('model = dict(generatr=dict())', 'generatr'),
        ('train_cfg = dict(max_iters=600)', 'train_cfg.max_iters=600'),  # the other one trains for 900
    ],
)
def test_mistakes_are_found_before_anything_is_trained(write, tmp_path, contents, key):
    configs = [write('a'), write('wrong', contents)]
    with pytest.raises(ConfigError, match=key):
        plan_series(configs, [1], tmp_path / 'series')
    with pytest.raises(ConfigError, match='x_a_b64, x_a_b64'):
        plan_series([configs[0]] * 2, [1], tmp_path / 'series')
    assert not (tmp_path / 'series').exists()
