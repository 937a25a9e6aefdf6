"""The files of a run: what a resumed checkpoint names elsewhere is neither removed nor written."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmsagan.apis import train_from_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.registry import HOOKS

METRICS = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])
BEST = 'best_FID-digits_fid_iter_{}.pth'


@HOOKS.register_module()
class ForgetEvaluationHook(Hook):
    """A resumed training does the evaluation of its iteration once more."""

    priority = 'VERY_LOW'

    def before_train(self, runner):
        runner.message_hub.update_info('evaluated_iter', None)


@pytest.fixture
def train(tiny_run, tmp_path, monkeypatch):
    """Trains in a folder and evaluates each iteration: train(name, scores, resume=None, **options); gives its log."""

    def run(name, scores, resume=None, **options):
        scores = iter(scores)
        evaluate = 'mmsagan.evaluation.Evaluator.evaluate_model'
        monkeypatch.setattr(evaluate, lambda *_: {'FID-digits/fid': next(scores)})
        monkeypatch.setattr('mmsagan.evaluation.Evaluator.prepare', lambda *_: None)
        options = {'default_hooks.checkpoint.interval': 1, 'custom_hooks': [], 'train_cfg.val_interval': 1, **options}
        cfg = tiny_run(linear=True, val_evaluator=METRICS, **options)
        cfg.update(work_dir=str(tmp_path / name), resume=resume is not None, load_from=resume and str(tmp_path / resume))
        train_from_config(cfg)
        return '\n'.join(path.read_text() for path in (tmp_path / name).glob('*/*.log'))

    return run


def best_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('best_*'))


def test_another_runs_best_checkpoint_is_copied_and_stays(train, tmp_path):
    train('a', [5.0, 4.0], max_iters=2)
    before = (tmp_path / 'a' / BEST.format(2)).read_bytes()
    log = train('b', [6.0], resume='a/iter_2.pth', max_iters=3)
    assert (tmp_path / 'b' / BEST.format(2)).read_bytes() == before and 'is copied from' in log
    train('b', [3.0], resume='b/iter_3.pth', max_iters=4)
    assert best_files(tmp_path / 'a') == [BEST.format(2)] and best_files(tmp_path / 'b') == [BEST.format(4)]


@pytest.mark.parametrize('copy', [shutil.copytree, shutil.move])
def test_a_run_that_was_copied_or_moved(train, tmp_path, copy):
    train('a', [5.0], max_iters=1)
    copy(tmp_path / 'a', tmp_path / 'b')
    train('b', [3.0], resume='b/iter_1.pth', max_iters=2)
    assert best_files(tmp_path / 'b') == [BEST.format(2)]
    assert best_files(tmp_path / 'a') == ([BEST.format(1)] if copy is shutil.copytree else [])


@pytest.mark.parametrize(
    'key, value',
    [
        ('best_ckpt', '{}/precious'),
        ('best_ckpt', '../precious'),
        ('best_ckpt', '{}/elsewhere/best_precious.pth'),
        ('best_ckpt', 'a/iter_1.pth'),
        ('best_ckpt', 3),
        ('best_score', 'low'),
        ('keep_ckpt_ids', ['/../../precious', '1', None, 1]),
        ('keep_ckpt_ids', 7),
    ],
)
def test_paths_in_a_checkpoint_reach_nothing_outside(train, tmp_path, key, value):
    train('a', [5.0], max_iters=1)
    others = [tmp_path / 'precious.pth', tmp_path / 'precious', tmp_path / 'elsewhere/best_precious.pth']
    for path in (tmp_path / 'elsewhere', tmp_path / 'a' / 'iter_'):
        path.mkdir()
    for path in others:
        path.write_text('mine')
    checkpoint = load_checkpoint_file(tmp_path / 'a' / 'iter_1.pth')
    value = value.format(tmp_path) if isinstance(value, str) else value
    checkpoint['message_hub']['runtime_info'][key] = value
    torch.save(checkpoint, tmp_path / 'a' / 'iter_1.pth')
    log = train('a', [3.0, 2.0], 'a/iter_1.pth', **{'default_hooks.checkpoint.max_keep_ckpts': 1}, max_iters=3)
    assert all(path.read_text() == 'mine' for path in others)
    assert (tmp_path / 'a' / BEST.format(3)).is_file()
    assert ('is forgotten' in log) == (key != 'keep_ckpt_ids')


def test_a_best_checkpoint_that_is_gone_is_forgotten_with_its_score(train, tmp_path):
    train('a', [1.0], max_iters=1)
    (tmp_path / 'a' / BEST.format(1)).unlink()
    log = train('b', [6.0, 7.0], resume='a/iter_1.pth', max_iters=3)
    assert best_files(tmp_path / 'b') == [BEST.format(2)] and 'is forgotten' in log


def test_a_repeated_evaluation_keeps_the_best_file_that_it_has_written(train, tmp_path):
    train('a', [5.0], max_iters=1)
    log = train('a', [4.0, 6.0], 'a/iter_1.pth', custom_hooks=[dict(type='ForgetEvaluationHook')], max_iters=2)
    assert 'The best checkpoint with 4.0000' in log
    assert best_files(tmp_path / 'a') == [BEST.format(1)]
