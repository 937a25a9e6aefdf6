"""Trainings that are killed and stopped at any moment, and resumed."""

import random
import signal
import time
from pathlib import Path

import pytest
from training_process import SMALL, TrainingProcess, assert_same_training

FLIPS = [dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
LAST = f'iter_{SMALL["train_cfg.max_iters"]}.pth'

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory) -> Path:
    """The last checkpoint of a training that nothing has happened to."""
    folder = tmp_path_factory.mktemp('uninterrupted')
    assert TrainingProcess(folder, train_dataloader__dataset__pipeline=FLIPS).end() == 0
    return folder / LAST


def output(folder: Path) -> str:
    return (folder / 'output.txt').read_text()


def test_kills_at_random_moments(tmp_path, uninterrupted):
    """Killed a dozen times: in iterations, while a checkpoint is flushed, and before its pointer is written."""
    kills, seed = 0, random.Random(0)
    while True:
        # The events up to the first checkpoint: an iteration, flushing the file, renaming it, flushing the folder; then the
        # same for the pointer. After the later ones an attempt's work is saved, so they are rarer here, and not the first.
        moment = seed.choice([1, 2] if kills < 3 else [1, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7])
        training = TrainingProcess(tmp_path, resume=True, wait_after=moment, train_dataloader__dataset__pipeline=FLIPS)
        while (event := training.next_event()) not in ('waiting', None):
            if seed.random() < 0.05:
                time.sleep(seed.random() * 0.05)  # somewhere between two events
                break
        if event is None:
            break
        training.kill()
        kills += 1
        assert kills < 50, output(tmp_path)
    assert kills >= 8, kills
    assert training.end() == 0
    assert_same_training(tmp_path / LAST, uninterrupted)
    assert not list(tmp_path.glob('.*.unfinished'))
    assert 'which an earlier run has left unfinished' in output(tmp_path)


def test_resuming_with_other_loader_processes(tmp_path, uninterrupted):
    options = dict(train_dataloader__dataset__pipeline=FLIPS, train_dataloader__num_workers=2)
    training = TrainingProcess(tmp_path, **options)
    assert training.wait_for('iteration', 7)
    training.kill()
    assert TrainingProcess(tmp_path, resume=True, train_dataloader__dataset__pipeline=FLIPS).end() == 0
    assert 'resumed epoch: 0, iter: 6' in output(tmp_path)
    assert_same_training(tmp_path / LAST, uninterrupted)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_stops(tmp_path, uninterrupted, number):
    options = dict(train_dataloader__dataset__pipeline=FLIPS, default_hooks__checkpoint__interval=1000)
    training = TrainingProcess(tmp_path, **options)
    assert training.wait_for('iteration', 3)
    training.send(number)
    assert training.end() == 75, output(tmp_path)
    saved = [path.name for path in tmp_path.glob('iter_*.pth')]
    assert len(saved) == 1 and f'stopped by {number.name} after iteration' in output(tmp_path)
    assert TrainingProcess(tmp_path, resume=True, **options).end() == 0
    assert_same_training(tmp_path / LAST, uninterrupted)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tmp_path, number):
    training = TrainingProcess(tmp_path, sleep_in=2)
    assert training.wait_for('asleep')
    training.send(number)
    training.send(number)  # handed on by torchrun: still the first one
    time.sleep(1.2)
    assert training.process.is_alive()
    training.send(number)
    assert training.end(timeout=5) == -number
    assert 'once more ends the training at once' in output(tmp_path)


def test_a_damaged_newest_checkpoint(tmp_path, uninterrupted):
    assert TrainingProcess(tmp_path, train_dataloader__dataset__pipeline=FLIPS, train_cfg__max_iters=8).end() == 0
    damaged = tmp_path / 'iter_8.pth'
    content = bytearray(damaged.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 500):  # one byte may lie in the padding between two tensors
        content[place] ^= 1
    damaged.write_bytes(content)
    (tmp_path / 'iter_6.pth').write_bytes(content[: len(content) // 2])
    assert TrainingProcess(tmp_path, resume=True, train_dataloader__dataset__pipeline=FLIPS).end() == 0
    text = output(tmp_path)
    assert 'iter_8.pth is damaged' in text and 'iter_6.pth is damaged' in text and 'resumed epoch: 0, iter: 4' in text
    assert_same_training(tmp_path / LAST, uninterrupted)
