"""The page that a training keeps about itself."""

import errno
import os
import re
import signal
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from mmengine.hooks import Hook
from PIL import Image

from mmsagan.apis import train_from_config
from mmsagan.apis.train import summary as said_at_the_end
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.engine.hooks import CollapseHook, SummaryHook
from mmsagan.engine.hooks import summary as summary_hook
from mmsagan.engine.logs import read_curves
from mmsagan.errors import ConfigError, DataError, TrainingInterrupted
from mmsagan.registry import HOOKS

METRICS = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])
GRID = dict(type='VisualizationHook', interval=2, num_rows=1)


@HOOKS.register_module()
class HappensInIteration(Hook):
    """A signal, an error, or a look at the page, in an iteration."""

    pages: list[str] = []

    def __init__(self, iteration: int, what: str):
        self.iteration, self.what = iteration, what

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 != self.iteration:
            return
        if self.what == 'signal':
            signal.raise_signal(signal.SIGTERM)
        elif self.what == 'error':
            raise RuntimeError('made to fail\nin two lines')
        elif self.what == 'collapse':
            next(hook for hook in runner.hooks if isinstance(hook, CollapseHook))._warn(runner, 'collapse', 'it has')
        else:
            self.pages.append(page_of(runner.work_dir))


def happens(iteration: int, what: str) -> dict:
    return dict(type='HappensInIteration', iteration=iteration, what=what)


@pytest.fixture
def run(tiny_run):
    """Makes the config of a training with a page, of four iterations and an evaluation after each second: run(**options)."""

    def make(max_iters=4, hooks=(GRID,), **options):
        options = {
            'default_hooks.checkpoint.interval': 2,
            'train_cfg.val_interval': 2,
            'custom_hooks': list(hooks),
            'val_evaluator': METRICS,
            **options,
        }
        return tiny_run(max_iters=max_iters, summary=True, **options)

    return make


@pytest.fixture
def scores(monkeypatch):
    """Has evaluations give these scores, one after the other: scores(4.0, 3.0)."""

    def give(*values):
        left = iter(values)
        monkeypatch.setattr('mmsagan.evaluation.Evaluator.evaluate_model', lambda *_: {'FID-digits/fid': next(left)})

    return give


def page_of(work_dir) -> str:
    return Path(work_dir, 'summary.md').read_text()


def links(text: str) -> list[str]:
    children = [child for token in MarkdownIt('commonmark').enable('table').parse(text) for child in token.children or ()]
    return [
        unquote(child.attrs.get('href', child.attrs.get('src'))) for child in children if child.type in ('link_open', 'image')
    ]


def test_the_page_of_a_training(run, scores):
    scores(4.0, 7.5)
    cfg = run()
    runner = train_from_config(cfg)
    text = page_of(cfg.work_dir)
    assert text.startswith('# sagan_32_woReLUinplace_cifar10_b64x1\n\n**Finished**: 4 iterations, after 0:00:')
    best = 'best_FID-digits_fid_iter_2.pth'
    assert f'| FID-digits/fid | lowest | 4.0000 | 2 | [{best}]({best}) |' in text
    assert '| 2 | **4.0000** |\n| 4 | 7.5000 |' in text
    assert '| `train_cfg.max_iters` |  | `500000` |' in text and '| `train_cfg.max_iters` | `500000` | `4` |' in text
    assert '`../_base_/models/sagan/base_sagan_32x32.py`' in text and 'seed 2022.' in text
    found = links(text)
    assert {'iter_4.pth', best, 'curves.png', 'samples/fake_img_4.png', 'samples', Path(cfg.filename).name} <= set(found)
    assert all(Path(cfg.work_dir, link).exists() for link in found)
    assert Image.open(Path(cfg.work_dir, 'curves.png')).size == (3 * 520, 390)
    assert f'summary:    {cfg.work_dir}/summary.md' in said_at_the_end(runner)


def test_it_is_refreshed_as_the_training_goes_on(run, scores):
    """After the first iteration, at its interval, after checkpoints and evaluations."""
    scores(4.0, 7.5, 7.0)
    HappensInIteration.pages.clear()
    hooks = [GRID, *(happens(iteration, 'look') for iteration in (2, 3, 5, 6))]
    train_from_config(run(max_iters=6, hooks=hooks, **{'train_cfg.val_interval': 3, 'default_hooks.summary.interval': 5}))
    second, third, fifth, sixth = HappensInIteration.pages
    assert 'iteration 1 of 6 (17 %)' in second and 'Scores' not in second and 'samples/' not in second
    assert 'iteration 2 of 6' in third and '[iter_2.pth](iter_2.pth)' in third and '(samples/fake_img_2.png)' in third
    assert 'iteration 4 of 6' in fifth and '| 3 | **4.0000** |' in fifth and 'images/s. As of ' in fifth
    assert 'iteration 5 of 6' in sixth


def test_stopped_and_resumed(run, scores):
    """One page, one curve, and the time of both runs."""
    scores(4.0, 7.5, 3.0)
    cfg = run(hooks=[GRID, happens(3, 'signal')])
    with pytest.raises(TrainingInterrupted):
        train_from_config(cfg)
    text = page_of(cfg.work_dir)
    assert re.search(
        r'\*\*Stopped\*\* at iteration 3 of 4, after 0:00:\d\d, at .*: stopped by SIGTERM after iteration 3, saved', text
    )
    assert '[iter_3.pth](iter_3.pth)' in text and '| 2 | **4.0000** |' in text
    path = Path(cfg.work_dir, 'iter_3.pth')
    checkpoint = load_checkpoint_file(path)
    assert 0 < checkpoint['meta']['training_seconds'] < 100
    checkpoint['meta']['training_seconds'] = 3600.0
    torch.save(checkpoint, path)
    cfg = run(max_iters=6, resume=True)
    train_from_config(cfg)
    text = page_of(cfg.work_dir)
    assert '**Finished**: 6 iterations, after 1:00:' in text
    assert '| 2 | 4.0000 |\n| 4 | 7.5000 |\n| 6 | **3.0000** |' in text
    assert read_curves(cfg.work_dir)['loss_disc'][0].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_training_that_fails(run):
    cfg = run(hooks=[happens(4, 'error')], val_evaluator=None)
    with pytest.raises(RuntimeError):
        train_from_config(cfg)
    text = page_of(cfg.work_dir)
    assert re.search(r'\*\*Failed\*\* at iteration 3 of 4, after 0:00:\d\d, at \S+ \S+: made to fail\.\n', text)
    assert '[iter_2.pth](iter_2.pth)' in text and '![curves](curves.png)' in text


def test_a_training_that_does_not_begin(run):
    """It leaves nothing, and the page of the training before it."""
    cfg = run(**{'model.num_classes': 7})
    with pytest.raises(DataError):
        train_from_config(cfg)
    assert not Path(cfg.work_dir).exists()
    train_from_config(run(max_iters=1, val_evaluator=None))
    text = page_of(cfg.work_dir)
    with pytest.raises(DataError):
        train_from_config(run(**{'model.num_classes': 7}))
    assert page_of(cfg.work_dir) == text


@pytest.mark.parametrize('name', ['summary.md', 'curves.png'])
def test_a_full_disk(run, monkeypatch, name):
    original = summary_hook.write_atomically

    def write(path, data):
        if Path(path).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, data)

    monkeypatch.setattr(summary_hook, 'write_atomically', write)
    cfg = run(val_evaluator=None, **{'default_hooks.summary.interval': 1})
    assert train_from_config(cfg).iter == 4
    log = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
    assert log.count(f'{name} cannot be written, and the training goes on: No space left on device') == 1
    written = {path.name for path in Path(cfg.work_dir).iterdir()}
    assert written & {'summary.md', 'curves.png'} == {'summary.md', 'curves.png'} - {name}


def test_only_the_first_process_writes(run, monkeypatch):
    monkeypatch.setattr(summary_hook, 'is_main_process', lambda: False)
    cfg = run(val_evaluator=None)
    train_from_config(cfg)
    assert not list(Path(cfg.work_dir).glob('summary*')) and not list(Path(cfg.work_dir).glob('curves*'))


def test_the_training_is_the_same_with_it_and_without(run):
    weights = []
    for name in ('with', 'without'):
        cfg = run(val_evaluator=None)
        if name == 'without':
            cfg.default_hooks.pop('summary')
        cfg.work_dir += name
        train_from_config(cfg)
        weights.append(load_checkpoint_file(Path(cfg.work_dir, 'iter_4.pth'))['state_dict'])
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_what_has_gone_wrong_is_noted(run):
    """Skipped updates are those of the log; warnings outlive a resumed run."""
    cfg = run(val_evaluator=None, hooks=[happens(2, 'collapse')], **{'default_hooks.collapse.warmup': 0})
    runner = train_from_config(cfg)
    runner.message_hub.update_info('divergence', dict(skipped=3, rollbacks=2))
    hook = next(hook for hook in runner.hooks if isinstance(hook, SummaryHook))
    notes = hook.summary(runner, 4, {}).notes
    assert notes[:2] == [
        '3 updates were skipped, since their loss or gradient was not finite.',
        'The training has diverged, and gone back to a checkpoint, 2 times.',
    ]
    assert 'The generator may have collapsed (iteration 2): look at the samples.' in page_of(cfg.work_dir)
    cfg = run(max_iters=5, val_evaluator=None, resume=True)
    train_from_config(cfg)
    assert 'The generator may have collapsed (iteration 2)' in page_of(cfg.work_dir)


def test_without_a_log(run):
    """Nothing to draw and no scores, but a page."""
    cfg = run(val_evaluator=None, **{'visualizer.vis_backends': []})
    train_from_config(cfg)
    text = page_of(cfg.work_dir)
    assert '**Finished**: 4 iterations' in text and 'curves.png' not in text and '[iter_4.pth](iter_4.pth)' in text


def test_best_results_by_the_metrics_own_rules(run, scores):
    """NaN is never the best; of a checkpoint that is not there, no file is named."""
    scores(np.nan, 5.0)
    cfg = run()
    runner = train_from_config(cfg)
    Path(cfg.work_dir, 'best_FID-digits_fid_iter_4.pth').unlink()
    (best,) = summary_hook.best_results(runner, read_curves(cfg.work_dir)).values()
    assert (best.rule, best.value, best.iteration, best.checkpoint) == ('less', 5.0, 4, None)


@pytest.mark.parametrize('interval', [0, -1])
def test_a_wrong_interval(interval):
    with pytest.raises(ConfigError, match='SummaryHook: interval must be at least 1'):
        SummaryHook(interval=interval)
