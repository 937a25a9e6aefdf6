"""The log line, the progress bar and the page that a training keeps about itself."""

import errno
import io
import json
import os
import re
import signal
from pathlib import Path
from urllib.parse import unquote

import pytest
import rich
from markdown_it import MarkdownIt
from mmengine.hooks import Hook
from PIL import Image
from rich.console import Console

from mmsagan.apis import train_from_config
from mmsagan.apis.experiment import training_summary
from mmsagan.engine.hooks import logging as hooks
from mmsagan.errors import TrainingInterrupted
from mmsagan.registry import HOOKS

METRICS = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])
GRID = dict(type='VisualizationHook', interval=2, num_rows=1)


@HOOKS.register_module()
class HappensInIteration(Hook):
    pages: list[str] = []

    def __init__(self, iteration: int, what: str):
        self.iteration, self.what = iteration, what

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            if self.what == 'signal':
                signal.raise_signal(signal.SIGTERM)
            elif self.what == 'error':
                raise RuntimeError('made to fail\nin two lines')
            self.pages.append(page_of(runner.work_dir))


@pytest.fixture
def run(tiny_run, monkeypatch):
    """Makes the config of a training with a page, and evaluations that give these scores: run(scores, happens, **options)."""

    def make(*scores, happens=(), max_iters=4, with_curves=False, **options):
        left = iter(scores)
        if not with_curves:  # drawing them takes longer than the training
            monkeypatch.setattr(hooks, 'draw_curves', lambda curves: b'')
        monkeypatch.setattr('mmsagan.evaluation.Evaluator.evaluate_model', lambda *_: {'FID-digits/fid': next(left)})
        custom_hooks = [GRID, *(dict(type='HappensInIteration', iteration=number, what=what) for number, what in happens)]
        options = {
            'default_hooks.checkpoint.interval': 2,
            'train_cfg.val_interval': 2,
            'custom_hooks': custom_hooks,
            'val_evaluator': METRICS if scores else None,
            **options,
        }
        return tiny_run(max_iters=max_iters, summary=True, **options)

    return make


def page_of(work_dir) -> str:
    return Path(work_dir, 'summary.md').read_text()


def log_of(work_dir) -> str:
    return ''.join(path.read_text() for path in Path(work_dir).glob('*/*.log'))


def test_the_log_and_the_page_of_a_training(run):
    cfg = run(4.0, 7.5, with_curves=True, **{'model.discriminator_steps': 1})
    train_from_config(cfg)
    number = r'-?\d+\.\d{3}'
    pattern = rf'loss D {number} G {number}  logits real {number} fake {number}  \S+ images/s  \d+ MB  eta 0:00:\d\d'
    assert len(re.findall(rf'- INFO - \[[1-4]/4\]  {pattern}\n', log_of(cfg.work_dir))) == 4
    assert re.search(r'- INFO - Iter\(val\) .*FID-digits/fid: 4.0000', log_of(cfg.work_dir))
    records = [json.loads(line) for line in next(Path(cfg.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()]
    expected = {'loss_disc', 'loss_disc_real', 'loss_disc_fake', 'loss_gen', 'logits_real', 'logits_fake', 'logits_gap'}
    expected |= {'time', 'data_time', 'generator.lr', 'discriminator.lr', 'images_per_second', 'memory', 'iter', 'step'}
    assert all(set(record) == expected for record in records if 'iter' in record) and len(records) == 6
    assert records[0]['images_per_second'] == pytest.approx(4 / records[0]['time']) and records[0]['memory'] > 50
    text = page_of(cfg.work_dir)
    assert text.startswith('# sagan_32_woReLUinplace_cifar10_b64x1\n\n**Finished**: 4 iterations. As of ')
    best = 'best_FID-digits_fid_iter_2.pth'
    assert f'| [{best}]({best}) | 4.0000 |' in text and '| 2 | 4.0000 |\n| 4 | 7.5000 |' in text
    assert '| `train_cfg.max_iters` |  | `4` |' in text and '| `model.discriminator_steps` | `5` | `1` |' in text
    assert text.count('`train_cfg.max_iters`') == 1 and 'seed 2022.' in text
    tokens = MarkdownIt('commonmark').enable('table').parse(text)
    children = [child for token in tokens for child in token.children or () if child.type in ('link_open', 'image')]
    found = {unquote(child.attrs.get('href', child.attrs.get('src'))) for child in children}
    assert {'iter_4.pth', best, 'curves.png', 'samples/fake_img_4.png'} <= found
    assert all(Path(cfg.work_dir, link).exists() for link in found)
    assert Image.open(Path(cfg.work_dir, 'curves.png')).size == (3 * 520, 390)


def test_a_fresh_run_in_an_old_folder_lists_its_own_files(run):
    cfg = run(9.0, 4.0)
    Path(train_from_config(cfg).log_dir).rename(Path(cfg.work_dir, '20260101_000000'))  # named by the second
    (Path(cfg.work_dir) / 'samples' / 'old_1.png').write_bytes(b'')
    (log,) = Path(cfg.work_dir).glob('*/*.log')
    log.parent.rename(Path(cfg.work_dir, '20200101_000000'))  # the next run may begin in the same second
    HappensInIteration.pages.clear()
    cfg = run(8.0, 9.0, happens=[(2, 'look')], **{'default_hooks.logger.interval': 4})
    runner = train_from_config(cfg)
    (first,) = HappensInIteration.pages
    assert not re.search(r'Scores|\| iteration \||curves.png|samples/|iter_4', first)
    for text in (page_of(cfg.work_dir), training_summary(runner)):
        assert 'best_FID-digits_fid_iter_2.pth' in text and 'best_FID-digits_fid_iter_4.pth' not in text
        assert 'fake_img_4.png' in text and 'old_1.png' not in text
    assert Path(cfg.work_dir, 'best_FID-digits_fid_iter_4.pth').is_file(), 'what an earlier run has left is left alone'


def test_the_duration_is_estimated(quick_runner, monkeypatch):
    """By a clock that goes on by three seconds an iteration."""
    for max_iters, expected in ((26, []), (66, ['40 iterations from here on take about 0:02:00'])):
        runner = quick_runner(
            max_iters,
            noting=lambda runner, _: monkeypatch.setattr(hooks.time, 'monotonic', lambda: 3.0 * runner.iter),
            work_dir=str(max_iters),
        )
        runner.train()
        log = next(Path(runner.work_dir).glob('*/*.log')).read_text()
        assert re.findall(r'\d+ iterations from here on take about [\d:]+', log) == expected


def test_the_bar_on_a_terminal(quick_runner, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.delenv('CI', raising=False)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setattr(rich, '_console', Console(file=terminal, force_terminal=True, width=150, color_system=None))
    runner = quick_runner(6)
    runner.train()
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', terminal.getvalue())
    assert re.search(r'training ━+ 6/6 0:00:\d\d left', text) and '[6/6]  loss D' in text


def test_it_is_updated_and_goes_on_when_resumed(run):
    HappensInIteration.pages.clear()
    happens = [(2, 'look'), (3, 'look'), (4, 'look'), (4, 'signal')]
    cfg = run(4.0, 9.0, happens=happens, max_iters=6, **{'default_hooks.summary.interval': 3, 'train_cfg.val_interval': 2})
    with pytest.raises(TrainingInterrupted):
        train_from_config(cfg)
    second, third, fourth, _ = HappensInIteration.pages
    assert 'iteration 1 of 6' in second and 'Scores' not in second and 'samples/' not in second
    assert 'iteration 2 of 6' in third and '| 2 | 4.0000 |' in third and '(samples/fake_img_2.png)' in third
    assert 'iteration 3 of 6' in fourth
    assert '**Stopped** at iteration 4 of 6: stopped by SIGTERM' in page_of(cfg.work_dir)
    cfg = run(3.0, max_iters=6, resume=True)
    train_from_config(cfg)
    text = page_of(cfg.work_dir)
    assert '**Finished**: 6 iterations' in text and '| 2 | 4.0000 |\n| 4 | 9.0000 |\n| 6 | 3.0000 |' in text
    assert 'best_FID-digits_fid_iter_6.pth' in text and 'best_FID-digits_fid_iter_2.pth' not in text


def test_a_training_that_fails_on_a_full_disk(run, monkeypatch):
    def write(path, data):
        if Path(path).name == 'curves.png':
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, data)

    original = hooks.write_atomically
    monkeypatch.setattr(hooks, 'write_atomically', write)
    cfg = run(happens=[(4, 'error')])
    with pytest.raises(RuntimeError):
        train_from_config(cfg)
    assert '**Failed** at iteration 3 of 4: made to fail. As of ' in page_of(cfg.work_dir)
    assert 'No space left on device' in log_of(cfg.work_dir)


@pytest.mark.parametrize('broken', ['read_curves', 'best_checkpoints'])
def test_a_page_that_cannot_be_made_ends_nothing(run, monkeypatch, broken):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hooks, broken, fail)
    cfg = run(max_iters=1)
    assert train_from_config(cfg).iter == 1
    assert ('Input/output error' in log_of(cfg.work_dir)) == (broken == 'best_checkpoints')


def test_the_norm_of_a_gradient_is_logged_once_per_update(tiny_run):
    """Four updates of D and two of G."""
    options = {
        'model.discriminator_steps': 2,
        'optim_wrapper.clip_grad': dict(max_norm=1.0),
        'default_hooks.logger.interval': 4,
    }
    runner = train_from_config(tiny_run(max_iters=4, linear=True, custom_hooks=[], val_evaluator=None, **options))
    norms, _ = runner.message_hub.get_scalar('train/grad_norm').data
    assert len(norms) == 6 and len(set(norms)) == 6
