"""Evaluation during training and afterwards, through MMEngine's runner."""

import json
from pathlib import Path

import pytest

from mmsagan.apis import evaluate_from_config, train_from_config
from mmsagan.apis.experiment import training_summary
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.engine.loops import build_evaluator
from mmsagan.errors import CheckpointError, ConfigError, DataError
from mmsagan.evaluation import Evaluator

METRICS = [
    dict(type='InceptionScore', fake_nums=70, resize=False, inception_style='digits'),
    dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits'),
]


@pytest.fixture
def evaluated_run(tiny_run):
    def make(interval=1, **options):
        options = {'default_hooks.checkpoint.interval': 100, 'train_cfg.val_interval': interval, 'custom_hooks': [], **options}
        cfg = tiny_run(linear=True, **options)
        cfg.val_evaluator = cfg.test_evaluator = dict(metrics=METRICS)
        return cfg

    return make


def scores(cfg) -> dict[int, float]:
    files = sorted(Path(cfg.work_dir).glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {line['step']: line['FID-digits/fid'] for line in lines if 'FID-digits/fid' in line}


def test_evaluation_in_intervals_keeps_the_best_checkpoints(evaluated_run):
    cfg = evaluated_run(3, max_iters=6, **{'train_cfg.dynamic_intervals': [(4, 1)]})
    runner = train_from_config(cfg)
    by_step = scores(cfg)
    assert list(by_step) == [3, 4, 5, 6]
    best = {path.name.split('_iter')[0]: path for path in Path(cfg.work_dir).glob('best_*.pth')}
    assert set(best) == {'best_FID-digits_fid', 'best_IS-digits_is'}
    kept = int(load_checkpoint_file(best['best_FID-digits_fid'])['state_dict']['iteration'])
    assert by_step[kept] == min(by_step.values())
    text = training_summary(runner)
    assert 'FID-digits/fid' in text and str(best['best_IS-digits_is']) in text

    again = evaluated_run()
    results = evaluate_from_config(again, str(best['best_FID-digits_fid']))
    assert results['FID-digits/fid'] == pytest.approx(by_step[kept], rel=1e-6), 'the same as during training'


def test_evaluating_does_not_change_the_training(evaluated_run):
    weights = []
    for interval in (1, 100):
        cfg = evaluated_run(interval, max_iters=3)
        cfg.work_dir += str(interval)
        train_from_config(cfg)
        weights.append(load_checkpoint_file(Path(cfg.work_dir) / 'iter_3.pth')['state_dict'])
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_a_trial_shorter_than_the_interval_is_not_evaluated(tiny_run, evaluated_run):
    """The published configs train here without Inception's file. Dynamic intervals count, too."""
    cfg = tiny_run(max_iters=2)
    train_from_config(cfg)
    log = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
    assert 'no evaluation in this run: its 2 iterations are fewer than train_cfg.val_interval=10000' in log
    assert scores(cfg) == {}
    cfg = evaluated_run(10, max_iters=3, **{'train_cfg.dynamic_intervals': [(2, 1)]})
    cfg.work_dir += '_dynamic'
    train_from_config(cfg)
    assert list(scores(cfg)) == [1, 2, 3], 'MMEngine changes the interval one iteration ahead'


def test_resuming_continues_with_the_best_scores(evaluated_run):
    choice = {'default_hooks.checkpoint.save_best': 'FID-digits/fid', 'default_hooks.checkpoint.rule': 'less'}
    cfg = evaluated_run(max_iters=2, **{'model.discriminator_steps': 1}, **choice)
    train_from_config(cfg)
    cfg = evaluated_run(max_iters=3, **{'model.discriminator_steps': 1}, **choice)
    cfg.resume = True
    train_from_config(cfg)
    found = scores(cfg)
    best = min(found, key=found.get)
    assert len(found) == 3
    assert {path.name for path in Path(cfg.work_dir).glob('best_*')} == {f'best_FID-digits_fid_iter_{best}.pth'}


@pytest.mark.parametrize(
    'options, error, key',
    [
        (
            {'default_hooks.checkpoint.save_best': 'FID/fid', 'default_hooks.checkpoint.rule': 'less'},
            ConfigError,
            "save_best: .*'FID/fid'",
        ),
        ({'val_evaluator.metrics.0.inception_path': 'gone.pth'}, DataError, 'gone.pth'),
        ({'val_evaluator.held_out': dict(type='CIFAR10', data_root='gone')}, DataError, 'CIFAR-10'),
    ],
)
def test_what_an_evaluation_would_fail_on_is_found_before_training(evaluated_run, options, error, key):
    cfg = evaluated_run(max_iters=2)
    cfg.merge_from_dict(options)
    with pytest.raises(error, match=key):
        train_from_config(cfg)


def test_evaluating_a_checkpoint(evaluated_run, tmp_path):
    """Without a moving average in it, the generator is scored; nothing of the training is needed."""
    cfg = evaluated_run(10, max_iters=2, **{'model.discriminator_steps': 1})
    train_from_config(cfg)
    checkpoint = str(Path(cfg.work_dir) / 'iter_2.pth')
    plain = evaluate_from_config(evaluated_run(), checkpoint)
    averaged = evaluated_run(**{'model.ema_config': dict(momentum=0.9)})
    assert evaluate_from_config(averaged, checkpoint) == plain
    several = evaluate_from_config(evaluated_run(), checkpoint, truncation=[0.5, 50.0], num_seeds=2)
    assert {'truncation_0.5/FID-digits/fid', 'seeds_std/truncation_50.0/FID-digits/fid'} <= several.keys()
    cfg = evaluated_run()
    cfg.test_dataloader = cfg.train_dataloader
    for key in 'train_dataloader train_cfg optim_wrapper val_evaluator val_cfg val_dataloader auto_scale_lr'.split():
        cfg.pop(key, None)
    cfg.param_scheduler = None
    assert evaluate_from_config(cfg, checkpoint).keys() == plain.keys()
    cfg = evaluated_run()
    with pytest.raises(CheckpointError, match='gone.pth'):
        evaluate_from_config(cfg, str(tmp_path / 'gone.pth'))
    cfg.val_evaluator = cfg.test_evaluator = None
    with pytest.raises(ConfigError, match='test_evaluator'):
        evaluate_from_config(cfg, 'any.pth')


def test_evaluators_in_all_forms():
    for config in (METRICS, dict(metrics=METRICS), dict(type='Evaluator', metrics=METRICS), METRICS[0]):
        assert isinstance(build_evaluator(config), Evaluator)
    assert build_evaluator(build_evaluator(METRICS)).result_names == ['IS-digits/is', 'IS-digits/is_std', 'FID-digits/fid']
