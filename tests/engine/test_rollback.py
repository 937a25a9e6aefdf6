"""Which checkpoints a training may go back to."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.optim import CosineAnnealingLR, OptimWrapper, OptimWrapperDict
from torch import nn

from mmsagan.engine.rollback import good_checkpoint, is_finite, roll_back, scale_learning_rates
from mmsagan.utils.random_states import random_states


@pytest.fixture
def runner_with(tmp_path):
    """A runner that has saved checkpoints: runner_with({10: weight, ...}); None for a damaged file."""

    def make(weights):
        for iteration, weight in weights.items():
            path = tmp_path / f'iter_{iteration}.pth'
            torch.save(dict(state_dict=dict(weight=torch.tensor([1.0, weight or 0.0])), optimizer=dict(state={})), path)
            if weight is None:
                path.write_bytes(path.read_bytes()[:-100])
        hook = CheckpointHook(interval=10, by_epoch=False)
        hook.out_dir = str(tmp_path)
        return SimpleNamespace(hooks=[hook], work_dir=str(tmp_path))

    return make


@pytest.mark.parametrize(
    'weights, before, avoid, expected',
    [
        ({10: 1.0, 20: 1.0, 30: 1.0}, 31, None, 30),
        ({10: 1.0, 20: 1.0, 30: 1.0}, 30, None, 20),
        ({10: 1.0, 20: 1.0, 30: 1.0}, 31, 30, 20),
        ({10: 1.0, 20: 1.0, 30: 1.0}, 31, 20, 30),
        ({10: 1.0, 20: 1.0, 30: 1.0}, 29, 20, 10),
        ({10: 1.0, 20: 1.0, 30: 1.0}, 25, 10, 20),
        ({10: 1.0}, 20, 10, 10),
        ({10: 1.0, 20: math.nan, 30: math.inf}, 40, None, 10),
        ({10: 1.0, 20: None}, 30, None, 10),
        ({30: 1.0}, 30, None, None),
        ({}, 30, None, None),
    ],
)
def test_the_newest_good_one(runner_with, weights, before, avoid, expected):
    found = good_checkpoint(runner_with(weights), before, avoid)
    assert (found and found[0]) == expected
    assert found is None or found[1].name == f'iter_{expected}.pth'


def test_the_whole_training_must_be_in_it(runner_with, tmp_path):
    runner = runner_with({10: 1.0})
    torch.save(dict(state_dict={}), tmp_path / 'iter_20.pth')
    torch.save(dict(state_dict={}, optimizer=dict(state=[dict(moment=torch.tensor(math.nan))])), tmp_path / 'iter_30.pth')
    assert good_checkpoint(runner, 100)[0] == 10
    runner.hooks[0].by_epoch = True
    assert good_checkpoint(runner, 100) is None, 'epochs are not iterations'


def test_finite():
    assert is_finite(dict(a=[torch.ones(2), torch.tensor([1])], b='text', c=math.nan))
    assert not is_finite(dict(a=dict(b=(torch.tensor([1.0, math.inf]),))))


@pytest.mark.filterwarnings('ignore:Detected call of .scheduler.step')
@pytest.mark.parametrize('number_of_networks', [1, 2])
def test_rates_and_their_schedules_are_scaled_together(number_of_networks):
    """As if the training had begun with the lower rates."""

    def make(rate):
        wrappers = [
            OptimWrapper(
                torch.optim.SGD([dict(params=[weight], lr=rate), dict(params=[nn.Parameter(torch.ones(1))])], lr=3 * rate)
            )
            for weight in (nn.Parameter(torch.ones(1)) for _ in range(number_of_networks))
        ]
        schedules = [[CosineAnnealingLR(wrapper, T_max=10, by_epoch=False)] for wrapper in wrappers]
        if number_of_networks == 1:
            return SimpleNamespace(optim_wrapper=wrappers[0], param_schedulers=schedules[0])
        names = 'generator', 'discriminator'
        return SimpleNamespace(
            optim_wrapper=OptimWrapperDict(**dict(zip(names, wrappers))), param_schedulers=dict(zip(names, schedules))
        )

    def step(runner):
        schedules = runner.param_schedulers
        for schedule in schedules if isinstance(schedules, list) else sum(schedules.values(), []):
            schedule.step()

    scaled, lower = make(0.4), make(0.1)
    for number in range(8):
        if number == 3:
            scale_learning_rates(scaled, 0.25)
        for runner in (scaled, lower):
            step(runner)
    for name, rates in lower.optim_wrapper.get_lr().items():
        assert scaled.optim_wrapper.get_lr()[name] == pytest.approx(rates) and max(rates) > 0
    runner = make(0.4)
    runner.param_schedulers = None
    scale_learning_rates(runner, 0.5)
    assert all(rates[-1] in (0.2, pytest.approx(0.6)) for rates in runner.optim_wrapper.get_lr().values())


@pytest.mark.parametrize('seed', [2022, None])
def test_random_numbers_go_on(quick_runner, seed):
    """MMEngine sets the checkpoint's seed where the config has none."""
    runner = quick_runner(4, randomness=dict(seed=seed))
    runner.train()
    expected = random_states()
    roll_back(runner, Path(runner.work_dir) / 'iter_2.pth')
    assert runner.iter == 2 and int(runner.model.iteration) == 2
    states = random_states()
    assert states['python'] == expected['python'] and torch.equal(states['torch'], expected['torch'])
    assert np.array_equal(states['numpy'][1], expected['numpy'][1]) and states['numpy'][2:] == expected['numpy'][2:]
