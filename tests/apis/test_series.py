import json
from pathlib import Path

import numpy as np
import pytest

from mmsagan.apis import series
from mmsagan.apis.series import plan_series, series_curves, series_table, train_series, variant_names
from mmsagan.errors import ConfigError, DataError

ROOT = Path(__file__).parent.parent.parent
# Stands for tools/train.py: logs an evaluation at every fourth iteration, and notes how it was called.
TRAIN = """
import json, os, sys, time
from mmengine.config import Config
cfg, work_dir = Config.fromfile(sys.argv[1]), sys.argv[sys.argv.index('--work-dir') + 1]
seed, behaviour = cfg.randomness.seed, cfg.get('behaviour', '')
if 'slow' in behaviour:
    time.sleep(0.5)
log = os.path.join(work_dir, f'2026010{len(os.listdir(work_dir)) if os.path.isdir(work_dir) else 0}_000000', 'vis_data')
os.makedirs(log)
with open(os.path.join(log, 'scalars.json'), 'w') as file:
    for step in range(4, cfg.train_cfg.max_iters + 1, 4):
        if 'silent' not in behaviour:
            file.write(json.dumps({'F/fid': seed * 100 / step, 'step': step}) + chr(10))
json.dump([sys.argv[2:], os.environ['OMP_NUM_THREADS']], open(os.path.join(work_dir, 'call.json'), 'w'))
print('trained')
sys.exit('bad' in behaviour)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a config of the demo with other contents: write(name, contents)."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/train.py').write_text(TRAIN)
    monkeypatch.setattr(series, 'shipped_root', lambda: tmp_path)

    def config(name: str, contents: str = '', base: str = 'sagan/sagan_32_mnist_b64x1.py') -> Path:
        path = tmp_path / f'x_{name}_b64.py'
        path.write_text(f"_base_ = '{ROOT}/configs/{base}'\n{contents}\n")
        return path

    return config


@pytest.fixture
def plan(write, tmp_path):
    """A series of two configs with the seeds 1 and 3: plan(iterations)."""
    configs = [write('a'), write('b')]

    def members(max_iters: int = 8, seeds=(1, 3), **options):
        return plan_series(configs, seeds, tmp_path / 'series', max_iters, {'train_cfg.val_interval': 4, **options})

    return members


def test_names_are_what_tells_configs_apart():
    assert variant_names([Path('x/s_32_sn-D_b64.py'), Path('y/s_32_no-sn_b64.py')]) == ['sn-D', 'no-sn']
    assert variant_names([Path('s_a_b64.py'), Path('s_b_b32.py')]) == ['a_b64', 'b_b32']
    assert variant_names([Path('s_a.py'), Path('s_a_b.py')]) == ['s_a', 's_a_b'], 'where the parts do not match'
    assert variant_names([Path('s_a.py')]) == ['s_a']


@pytest.mark.parametrize('jobs', [1, 2])
def test_every_config_with_every_seed(plan, jobs, monkeypatch):
    monkeypatch.setattr(series.os, 'cpu_count', lambda: 6)
    members = plan()
    assert [(member.variant, member.seed) for member in members] == [('a', 1), ('b', 1), ('a', 3), ('b', 3)]
    train_series(members, jobs)
    for member in members:
        arguments, threads = json.loads((member.folder / 'run/call.json').read_text())
        assert arguments == ['--work-dir', str(member.folder / 'run'), '--resume'] and threads == str(6 // jobs)
        assert (member.folder / 'output.txt').read_text() == 'trained\n'


def test_what_is_trained_is_not_trained_again(plan):
    first, *rest = plan()
    train_series([first])
    (first.folder / 'run/call.json').unlink()
    train_series([first, *rest])
    assert not (first.folder / 'run/call.json').exists() and all(member.finished() for member in rest)


def test_a_series_can_be_made_longer_and_shorter_but_not_another_one(plan):
    train_series(plan())
    assert not any(member.finished() for member in plan(12))
    train_series(plan(12))
    for length in (12, 8):
        steps, values = series_curves(plan(length), ['FID'])['F/fid']['a']
        assert steps[-1] == length and values[-1].tolist() == [100 / length, 300 / length], 'the values at its own end'
    assert all(member.finished() for member in plan(8, seeds=(3,)))
    with pytest.raises(ConfigError, match=r'a, seed 1: .*config.py has other settings'):
        plan(**{'train_dataloader.batch_size': 32})


@pytest.mark.parametrize('jobs, behaviours', [(1, ['bad', '', '']), (2, ['slow', '', 'bad', 'slow', '', ''])])
def test_after_a_failure_no_training_is_begun(write, tmp_path, jobs, behaviours):
    configs = [write(f'c{number}', f'behaviour = {text!r}') for number, text in enumerate(behaviours)]
    members = plan_series(configs, [1], tmp_path / 'series', 300)
    with pytest.raises(ConfigError, match=r'c\d, seed 1: the training has failed \(exit code 1\); .*output.txt says why'):
        train_series(members, jobs)
    begun = [member.folder.exists() for member in members]
    assert not any(begun[behaviours.index('bad') + jobs :]) and begun[behaviours.index('bad')]
    assert all(member.finished() for member, ran in zip(members, begun) if ran and 'bad' not in member.cfg.behaviour)


def test_a_training_that_does_not_evaluate_at_its_end(write, tmp_path):
    members = plan_series([write('a', "behaviour = 'silent'")], [1], tmp_path / 'series', 300)
    with pytest.raises(ConfigError, match='x_a_b64, seed 1: trained, but not evaluated at iteration 300; see .*output.txt'):
        train_series(members)


@pytest.mark.parametrize(
    'contents, base, message',
    [
        (
            'train_cfg = dict(max_iters=90, val_interval=40)',
            None,
            'not evaluated at its last iteration, 90; give a multiple of',
        ),
        ('train_cfg = None', None, 'no train_cfg'),
        ('train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=3)', None, 'a series counts iterations'),
        ('train_cfg = dict(_delete_=True, by_epoch=False, max_iters=30)', None, 'a series counts iterations'),
        ('model = dict(generatr=dict())', None, 'generatr'),
        ('val_evaluator = None\ntest_evaluator = None', None, 'no val_evaluator'),
        ('', 'sagan/sagan_32_cvt_studioGAN.py', 'for evaluation only'),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(write, tmp_path, contents, base, message):
    path = write('wrong', contents, base) if base else write('wrong', contents)
    with pytest.raises(ConfigError, match=message):
        plan_series([path], [1], tmp_path / 'series')
    assert not (tmp_path / 'series').exists()


def test_things_given_twice(write, tmp_path):
    with pytest.raises(ConfigError, match='two configs have the same name: x_a_b64, x_a_b64'):
        plan_series([write('a'), write('a')], [1], tmp_path / 'series')
    with pytest.raises(ConfigError, match='a seed is given twice: 1, 1'):
        plan_series([write('a')], [1, 1], tmp_path / 'series')


def test_lengths_that_differ(write, tmp_path):
    configs = [write('a'), write('b', 'train_cfg = dict(max_iters=600)')]
    with pytest.raises(ConfigError, match='the configs train for 600, 900 iterations; choose one by --max-iters'):
        plan_series(configs, [1], tmp_path / 'series')
    assert [member.max_iters for member in plan_series(configs, [1], tmp_path / 'series', 300)] == [300, 300]


def test_curves_and_table(plan):
    members = plan()
    train_series(members)
    panels = series_curves(members, ['FID'])
    steps, values = panels['F/fid']['b']
    assert list(panels) == ['F/fid'] and list(panels['F/fid']) == ['a', 'b']
    np.testing.assert_array_equal(steps, [4, 8])
    np.testing.assert_array_equal(values, [[25, 75], [12.5, 37.5]])
    title, rule, *rows = series_table(panels, [1, 3]).splitlines()
    assert title == '| at iteration 8 | F/fid, seed 1 | F/fid, seed 3 | F/fid, mean |'
    assert rule == '|---|---:|---:|---:|' and rows == ['| a | 12.50 | 37.50 | 25.00 |', '| b | 12.50 | 37.50 | 25.00 |']
    assert series_table(series_curves(members[:2], ['FID']), [1]).splitlines()[2] == '| a | 12.50 |'
    with pytest.raises(ConfigError, match="no 'KID' in the logs; there are F/fid"):
        series_curves(members, ['KID'])


def test_evaluations_at_other_iterations_are_not_compared(plan):
    members = plan()
    train_series(members)
    (log,) = members[0].folder.glob('run/*/vis_data/scalars.json')
    log.write_text(log.read_text().splitlines(keepends=True)[1])
    with pytest.raises(DataError, match='the trainings have not logged F/fid at the same iterations'):
        series_curves(members, ['fid'])
