"""Evaluation while training, and afterwards, through MMEngine's runner."""

import json
from pathlib import Path

import pytest

from mmsagan.apis import evaluate_from_config, train_from_config
from mmsagan.apis.train import summary, without_evaluation
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.engine.config import complete_evaluation
from mmsagan.engine.loops import build_evaluator
from mmsagan.errors import CheckpointError, ConfigError, DataError, DownloadError
from mmsagan.evaluation import Evaluator

METRICS = [
    dict(type='InceptionScore', fake_nums=70, resize=False, inception_style='digits'),
    dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits'),
]
BEST = {
    'default_hooks.checkpoint.interval': 100,
    'custom_hooks': [],
}


@pytest.fixture
def evaluated_run(tiny_run):
    """Makes the config of a training with two small metrics."""

    def make(**options):
        cfg = tiny_run(**{**BEST, **options})
        cfg.val_evaluator = cfg.test_evaluator = dict(metrics=METRICS)
        return cfg

    return make


def validations(cfg) -> list[int]:
    lines = [json.loads(line) for line in next(Path(cfg.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()]
    return [line['step'] for line in lines if 'FID-digits/fid' in line]


def test_evaluation_in_intervals_keeps_the_best_checkpoints(evaluated_run):
    cfg = evaluated_run(max_iters=6, **{'train_cfg.val_interval': 3, 'train_cfg.dynamic_intervals': [(4, 1)]})
    runner = train_from_config(cfg)
    assert validations(cfg) == [3, 4, 5, 6]
    best = {path.name.split('_iter')[0]: path for path in Path(cfg.work_dir).glob('best_*.pth')}
    assert set(best) == {'best_FID-digits_fid', 'best_IS-digits_is'}
    lines = [json.loads(line) for line in next(Path(cfg.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()]
    by_step = {line['step']: line['FID-digits/fid'] for line in lines if 'FID-digits/fid' in line}
    kept = int(load_checkpoint_file(best['best_FID-digits_fid'])['state_dict']['iteration'])
    assert by_step[kept] == min(by_step.values())
    text = summary(runner)
    assert 'FID-digits/fid' in text and str(best['best_IS-digits_is']) in text

    again = evaluated_run()
    results = evaluate_from_config(again, str(best['best_FID-digits_fid']))
    assert results['FID-digits/fid'] == pytest.approx(by_step[kept], rel=1e-6), 'the same as during training'


def test_evaluating_does_not_change_the_training(evaluated_run):
    weights = []
    for interval in (1, 100):
        cfg = evaluated_run(max_iters=3, **{'train_cfg.val_interval': interval})
        cfg.work_dir += str(interval)
        train_from_config(cfg)
        weights.append(load_checkpoint_file(Path(cfg.work_dir) / 'iter_3.pth')['state_dict'])
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_a_trial_shorter_than_the_interval_is_not_evaluated(tiny_run):
    """The published configs train here without Inception's file."""
    cfg = tiny_run(max_iters=2)
    train_from_config(cfg)
    log = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
    assert 'no evaluation in this run: its 2 iterations are fewer than train_cfg.val_interval=10000' in log
    assert 'Iter(val)' not in log and 'evaluated:' not in log


def test_dynamic_intervals_count_too(evaluated_run):
    cfg = evaluated_run(max_iters=3, **{'train_cfg.val_interval': 10, 'train_cfg.dynamic_intervals': [(2, 1)]})
    train_from_config(cfg)
    assert validations(cfg) == [1, 2, 3], 'MMEngine changes the interval one iteration ahead'


def test_best_checkpoints_of_ones_own_choice(evaluated_run):
    choice = {'default_hooks.checkpoint.save_best': 'FID-digits/fid', 'default_hooks.checkpoint.rule': 'less'}
    cfg = evaluated_run(max_iters=1, **{'train_cfg.val_interval': 1}, **choice)
    train_from_config(cfg)
    assert [path.name for path in Path(cfg.work_dir).glob('best_*')] == ['best_FID-digits_fid_iter_1.pth']


def test_resuming_goes_on_with_the_best_scores(evaluated_run):
    """The resumed part is a worse generator's, by a learning rate of 100: the best checkpoint must stay."""
    cfg = evaluated_run(max_iters=2, **{'train_cfg.val_interval': 1, 'model.discriminator_steps': 1})
    train_from_config(cfg)
    before = {path.name for path in Path(cfg.work_dir).glob('best_FID*')}
    cfg = evaluated_run(max_iters=3, **{'train_cfg.val_interval': 1, 'model.discriminator_steps': 1})
    cfg.resume = True
    train_from_config(cfg)
    lines = [
        json.loads(line)
        for path in sorted(Path(cfg.work_dir).glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    scores = {line['step']: line['FID-digits/fid'] for line in lines if 'FID-digits/fid' in line}
    best = min(scores, key=scores.get)
    assert len(scores) == 3 and {path.name for path in Path(cfg.work_dir).glob('best_FID*')} == {
        f'best_FID-digits_fid_iter_{best}.pth'
    }
    assert before


def test_a_checkpoint_without_a_moving_average(evaluated_run):
    """It would otherwise be scored by the average's random weights."""
    cfg = evaluated_run(max_iters=2, **{'train_cfg.val_interval': 10, 'model.discriminator_steps': 1})
    train_from_config(cfg)
    checkpoint = str(Path(cfg.work_dir) / 'iter_2.pth')
    plain = evaluate_from_config(evaluated_run(), checkpoint)
    averaged = evaluated_run(**{'model.ema_config': dict(momentum=0.9)})
    assert evaluate_from_config(averaged, checkpoint) == plain


def test_without_evaluation(evaluated_run):
    cfg = evaluated_run(max_iters=2, **{'train_cfg.val_interval': 1})
    without_evaluation(cfg)
    train_from_config(cfg)
    assert validations(cfg) == []


@pytest.mark.parametrize(
    'options, error, message',
    [
        (
            {'default_hooks.checkpoint.save_best': 'FID/fid', 'default_hooks.checkpoint.rule': 'less'},
            ConfigError,
            "no metric gives 'FID/fid'",
        ),
        ({'val_evaluator.metrics.0.inception_path': 'gone.pth'}, DataError, 'gone.pth does not exist'),
        ({'val_dataloader.dataset.data_root': 'gone'}, DataError, 'CIFAR-10 not found'),
        ({'val_dataloader.batch_size': 0}, ConfigError, r'val_dataloader.batch_size=0'),
        ({'val_evaluator.metrics.0.fake_num': 3}, ConfigError, "fake_num: InceptionScore .* did you mean 'fake_nums'"),
        ({'val_evaluator.metrics.0.sample_model': 'ema'}, ConfigError, 'keeps no moving average'),
        ({'val_evaluator.held_out': dict(type='CIFAR10', data_root='gone')}, DataError, 'CIFAR-10 not found'),
        ({'val_evaluator.metrics.1.inception_pkl': 'real.txt'}, DataError, 'written as .pkl or .npz'),
        ({'val_dataloader.dataset.indices': 20}, ConfigError, 'the number of images=20 is too few'),
    ],
)
def test_what_an_evaluation_would_fail_on_is_found_before_training(evaluated_run, options, error, message):
    cfg = evaluated_run(max_iters=2, **{'train_cfg.val_interval': 1})
    cfg.merge_from_dict(options)
    with pytest.raises(error, match=message):
        train_from_config(cfg)
    assert not Path(cfg.work_dir).exists()


def test_a_missing_inception_file_is_found_before_training(tiny_run, tmp_path, monkeypatch):
    from mmsagan.evaluation import StyleGANInception

    monkeypatch.setattr(StyleGANInception, 'url', 'http://127.0.0.1:9/inception.pt')
    cfg = tiny_run(max_iters=2, **{'train_cfg.val_interval': 1})
    with pytest.raises(DownloadError, match='inception.pt'):
        train_from_config(cfg)


def test_evaluation_needs_nothing_of_the_training(evaluated_run):
    cfg = evaluated_run(max_iters=1, **{'train_cfg.val_interval': 10})
    train_from_config(cfg)
    checkpoint = str(Path(cfg.work_dir) / 'iter_1.pth')
    cfg = evaluated_run()
    complete_evaluation(cfg, 'test')
    for key in (
        'train_dataloader',
        'train_cfg',
        'optim_wrapper',
        'val_evaluator',
        'val_cfg',
        'val_dataloader',
        'auto_scale_lr',
    ):
        cfg.pop(key, None)
    cfg.param_scheduler = None
    assert evaluate_from_config(cfg, checkpoint)['IS-digits/is'] > 0


def test_evaluation_of_a_wrong_checkpoint_leaves_nothing(evaluated_run, tmp_path):
    cfg = evaluated_run()
    with pytest.raises(CheckpointError, match='does not exist'):
        evaluate_from_config(cfg, str(tmp_path / 'gone.pth'))
    assert not Path(cfg.work_dir).exists()


def test_without_metrics(tiny_run):
    cfg = tiny_run()
    cfg.val_evaluator = cfg.test_evaluator = None
    with pytest.raises(ConfigError, match='no test_evaluator; inherit one from a file in configs/_base_/metrics'):
        evaluate_from_config(cfg, 'any.pth')


def test_the_real_images_are_the_training_set_unless_stated(tiny_run):
    cfg = tiny_run()
    cfg.merge_from_dict({'train_dataloader.dataset.data_root': 'mine'})
    assert complete_evaluation(cfg, 'val') and complete_evaluation(cfg, 'test')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.type == 'CIFAR10' and loader.dataset.data_root == 'mine'
        assert [transform.type for transform in loader.dataset.pipeline] == ['PackInputs'], 'no augmentation'
    cfg.val_dataloader = dict(dataset=dict(type='EmbeddedMNIST'))
    complete_evaluation(cfg, 'val')
    assert cfg.val_dataloader.dataset == dict(type='EmbeddedMNIST')


def test_evaluators_in_all_forms():
    for config in (METRICS, dict(metrics=METRICS), dict(type='Evaluator', metrics=METRICS), METRICS[0]):
        assert isinstance(build_evaluator(config), Evaluator)
    assert build_evaluator(build_evaluator(METRICS)).result_names == ['IS-digits/is', 'IS-digits/is_std', 'FID-digits/fid']
