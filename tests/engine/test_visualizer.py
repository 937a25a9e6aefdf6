"""Trackers, told by one line of a config."""

import copy
import importlib.util
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook

from mmsagan.apis import evaluate_from_config, train_from_config
from mmsagan.engine import visualizer
from mmsagan.engine.config import load_config
from mmsagan.engine.visualizer import SampleVisualizer
from mmsagan.errors import ConfigError, TrainingInterrupted
from mmsagan.registry import HOOKS

LOCAL = dict(type='LocalVisBackend', img_save_dir='../../samples')
WANDB = Path(__file__).parent.parent / 'data' / 'stand_ins'


def make(folder, track, vis_backends=(LOCAL,)) -> SampleVisualizer:
    save_dir = str(folder / 'run' / '20260101_000000')
    return SampleVisualizer(vis_backends=copy.deepcopy(list(vis_backends)), track=track, save_dir=save_dir)


@pytest.fixture
def wandb(monkeypatch):
    """The stand-in for W&B's package, with nothing in it."""
    monkeypatch.syspath_prepend(str(WANDB))
    monkeypatch.delitem(sys.modules, 'wandb', raising=False)
    for name in ('WANDB_PROJECT', 'WANDB_NAME', 'WANDB_RUN_ID', 'WANDB_RESUME'):
        monkeypatch.delenv(name, raising=False)
    module = importlib.import_module('wandb')
    yield module
    sys.modules.pop('wandb', None)


@HOOKS.register_module()
class StopAfterThree(Hook):
    """Sends this process a SIGTERM in the third iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            signal.raise_signal(signal.SIGTERM)


# ---------------------------------------------------------------------------------------------------------- choosing trackers


@pytest.mark.parametrize('installed', [True, False])
@pytest.mark.parametrize('track', ['tensorboard', ['tensorboard'], dict(type='TensorboardVisBackend')])
def test_tensorboard_is_used_when_installed(tmp_path, monkeypatch, installed, track):
    if installed and importlib.util.find_spec('tensorboard') is None:
        pytest.skip('tensorboard is not installed')
    if not installed:
        monkeypatch.setitem(visualizer._NEEDED_MODULE, 'TensorboardVisBackend', 'a_module_that_is_not_there')
    instance = make(tmp_path, track)
    instance.add_scalar('loss', 1.0, step=1)
    instance.close()
    assert list(tmp_path.rglob('scalars.json'))
    assert bool(list(tmp_path.rglob('events.*'))) == installed


def test_one_line_chooses(tmp_path):
    """In a config, on the command line, and nothing at all."""
    base = Path(__file__).parent.parent.parent / 'configs' / 'sagan' / 'sagan_32_mnist_b64x1.py'
    (tmp_path / 'mine.py').write_text(f"_base_ = {str(base)!r}\nvisualizer = dict(track='wandb')\n")
    assert load_config(base).visualizer.track == 'tensorboard'
    assert load_config(tmp_path / 'mine.py').visualizer == dict(type='SampleVisualizer', vis_backends=[LOCAL], track='wandb')
    for track in (['tensorboard', 'wandb'], None, []):
        assert load_config(base, {'visualizer.track': track}).visualizer.track == track


def test_backends_by_name_and_in_full(tmp_path, wandb):
    in_full = dict(type='WandbVisBackend', init_kwargs=dict(project='mine'))
    instance = make(tmp_path, ['wandb', 'tensorboard'], [LOCAL, in_full])
    assert [type(backend).__name__ for backend in instance.backends] == [
        'LocalVisBackend',
        'WandbVisBackend',
        'TensorboardVisBackend',
    ]
    assert instance.backends[1]._init_kwargs == dict(project='mine')
    assert [type(backend).__name__ for backend in make(tmp_path, None).backends] == ['LocalVisBackend']


@pytest.mark.parametrize('track', ['tensorbord', ['tensorboard', 'tb'], 3])
def test_an_unknown_tracker(tmp_path, track):
    with pytest.raises(ConfigError, match="is not known; it may be 'tensorboard', 'wandb', the config of a backend"):
        make(tmp_path, track)


# ---------------------------------------------------------------------------------------------------------------- TensorBoard


def test_what_tensorboard_gets(tiny_run):
    """All numbers of the log, the pictures, the results, the config, read back by TensorBoard's own reader."""
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    hooks = [dict(type='VisualizationHook', interval=2, num_rows=2)]
    cfg = tiny_run(max_iters=4, custom_hooks=hooks, **{'visualizer.track': 'tensorboard', 'train_cfg.val_interval': 4})
    cfg.val_evaluator = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])
    train_from_config(cfg)
    folder = next(Path(cfg.work_dir).glob('*/vis_data'))
    events = accumulator.EventAccumulator(str(folder), size_guidance=dict(images=0, scalars=0)).Reload()
    written = [json.loads(line) for line in (folder / 'scalars.json').read_text().splitlines()]
    for name in ('loss_disc', 'logits_fake', 'images_per_second', 'generator.lr', 'FID-digits/fid'):
        expected = [(record['step'], record[name]) for record in written if name in record]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=name)
    images = events.Images('fake_img')
    assert [image.step for image in images] == [2, 4]
    for image in images:
        assert image.encoded_image_string.startswith(b'\x89PNG') and (image.width, image.height) == (342, 70)
    assert "type='SAGANGenerator'" in str(events.Tensors('config/text_summary')[0].tensor_proto.string_val)


def test_tensorboard_has_all_of_a_training_that_was_stopped(tiny_run):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    cfg = tiny_run(max_iters=9, custom_hooks=[dict(type='StopAfterThree')], **{'visualizer.track': 'tensorboard'})
    with pytest.raises(TrainingInterrupted):
        train_from_config(cfg)
    events = accumulator.EventAccumulator(str(next(Path(cfg.work_dir).glob('*/vis_data')))).Reload()
    assert [event.step for event in events.Scalars('loss_disc')] == [1, 2, 3]


# ----------------------------------------------------------------------------------------------------------- Weights & Biases


def test_what_wandb_gets(tiny_run, wandb):
    hooks = [dict(type='VisualizationHook', interval=2, num_rows=2)]
    cfg = tiny_run(max_iters=4, custom_hooks=hooks, **{'visualizer.track': 'wandb'})
    train_from_config(cfg)
    (run,) = wandb.runs
    folder = next(Path(cfg.work_dir).glob('*/vis_data'))
    assert run.arguments == dict(
        project='mmsagan', name='run', resume='allow', id=Path(cfg.work_dir, 'wandb_run_id').read_text(), dir=str(folder)
    )
    assert run.config.values['model']['num_classes'] == 10 and run.config.values['train_cfg']['max_iters'] == 4
    assert run.metrics == {'iteration': {}, '*': dict(step_metric='iteration')}
    numbers = [entry for entry in run.entries if 'loss_disc' in entry]
    written = [json.loads(line) for line in (folder / 'scalars.json').read_text().splitlines()]
    assert [entry['iteration'] for entry in numbers] == [1, 2, 3, 4]
    assert [entry['loss_disc'] for entry in numbers] == [record['loss_disc'] for record in written]
    pictures = {entry['iteration']: entry['fake_img'].pixels for entry in run.entries if 'fake_img' in entry}
    assert list(pictures) == [2, 4] and pictures[2].shape == (70, 342, 3) and pictures[2].dtype == np.uint8
    assert run.exit_code == 0 and not run.has_code


def test_a_resumed_training_goes_on_with_its_run(tiny_run, wandb):
    options = {'visualizer.track': 'wandb', 'default_hooks.checkpoint.interval': 2, 'custom_hooks': []}
    train_from_config(tiny_run(max_iters=2, **options))
    train_from_config(tiny_run(max_iters=4, resume=True, **options))
    train_from_config(tiny_run(max_iters=1, **options))
    first, resumed, anew = wandb.runs
    assert first.arguments['id'] == resumed.arguments['id'] != anew.arguments['id']
    assert [entry['iteration'] for entry in first.entries + resumed.entries] == [1, 2, 3, 4]
    assert resumed.config.allowed_change, 'of max_iters, for one'


def test_the_users_words_go_first(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv('WANDB_PROJECT', 'of-the-environment')
    monkeypatch.setenv('WANDB_RUN_ID', 'mine')
    in_full = dict(type='WandbVisBackend', init_kwargs=dict(name='called so', mode='offline'), log_code_name='code')
    instance = make(tmp_path, in_full)
    instance.add_config(Config(dict(a=1)))
    (run,) = wandb.runs
    assert {**run.arguments, 'dir': ''} == dict(name='called so', mode='offline', resume='allow', dir='')
    assert run.has_code and not (tmp_path / 'run' / 'wandb_run_id').exists()


def test_a_training_that_fails_is_a_failed_run(tiny_run, wandb):
    cfg = tiny_run(max_iters=9, custom_hooks=[dict(type='StopAfterThree')], **{'visualizer.track': 'wandb'})
    with pytest.raises(TrainingInterrupted):
        train_from_config(cfg)
    assert wandb.runs[0].exit_code == 1


@pytest.mark.parametrize('moment, entries', [('init', 0), ('log', 0), ('finish', 4)])
def test_a_service_that_cannot_be_reached(tiny_run, wandb, moment, entries):
    """Warned of once; the training and its own files are as without it."""
    wandb.failing = moment
    cfg = tiny_run(max_iters=4, custom_hooks=[], **{'visualizer.track': 'wandb'})
    assert train_from_config(cfg).iter == 4
    log = next(Path(cfg.work_dir).glob('*/*.log')).read_text()
    assert log.count('WandbVisBackend has failed, and the training goes on without it: CommError: no network') == 1
    assert len(next(Path(cfg.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()) == 4
    assert sum(len(run.entries) for run in wandb.runs) == entries


def test_a_run_that_does_not_start_leaves_nothing(tiny_run, wandb):
    cfg = tiny_run(**{'visualizer.track': 'wandb', 'model.num_classes': 7})
    with pytest.raises(Exception, match='num_classes=10'):
        train_from_config(cfg)
    assert not Path(cfg.work_dir).exists() and wandb.runs[0].exit_code == 1


def test_a_test_is_no_run(tiny_run, wandb):
    cfg = tiny_run(max_iters=1, custom_hooks=[], val_evaluator=None)
    train_from_config(cfg)
    cfg = tiny_run(**{'visualizer.track': 'wandb'})
    cfg.test_evaluator = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])
    evaluate_from_config(cfg, str(Path(cfg.work_dir, 'iter_1.pth')))
    assert not wandb.runs


def test_a_mistake_of_our_own_is_not_hidden(tmp_path):
    instance = make(tmp_path, None)
    with pytest.raises(AttributeError):
        instance.add_image('name', 'no picture', step=1)


def test_newest_pictures(tmp_path):
    instance = make(tmp_path, None)
    for name, step in (('a_1', 2), ('a_1', 10), ('b', 7), ('a_1', 30)):
        instance.add_image(name, np.zeros((2, 2, 3), np.uint8), step)
    (tmp_path / 'run' / 'samples' / 'other.png').write_bytes(b'')
    pictures = instance.backends[0].newest_pictures(until=20)
    assert {name: (step, path.name) for name, (step, path) in pictures.items()} == {
        'a_1': (10, 'a_1_10.png'),
        'b': (7, 'b_7.png'),
    }
    assert all(path.is_file() for _, path in pictures.values())
