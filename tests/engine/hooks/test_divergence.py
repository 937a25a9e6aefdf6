"""Trainings whose losses are made to be NaN."""

import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.runner import IterBasedTrainLoop

from mmsagan.apis import train_from_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.checkpoints.io import find_latest_checkpoint
from mmsagan.engine.hooks import DivergenceHook
from mmsagan.errors import ConfigError, DivergenceError
from mmsagan.models.losses import HingeGANLoss
from mmsagan.registry import MODELS

LR = 2e-4  # of both networks


@MODELS.register_module()
class SpoiltLoss(HingeGANLoss):
    """NaN when told so, in both networks' updates or in one's."""

    spoilt = ()

    def discriminator_loss(self, real_logits, fake_logits):
        real, fake = super().discriminator_loss(real_logits, fake_logits)
        return (real, fake * math.nan) if 'discriminator' in self.spoilt else (real, fake)

    def generator_loss(self, fake_logits):
        return super().generator_loss(fake_logits) * (math.nan if 'generator' in self.spoilt else 1)


class Spoiler:
    """Spoils some iterations, counted from the process's first one; notes how every iteration began."""

    def __init__(self, iterations, networks=('discriminator',)):
        self.iterations, self.networks = iterations, networks
        self.began = []

    def __call__(self, runner, batch):
        self.began.append(
            dict(
                iteration=runner.iter,
                model=copy.deepcopy(runner.model.state_dict()),
                optimizers=copy.deepcopy(runner.optim_wrapper.state_dict()),
                random=torch.get_rng_state(),
                images=batch['inputs'],
            )
        )
        runner.model.gan_loss.spoilt = self.networks if len(self.began) in self.iterations else ()


@pytest.fixture
def spoilt_runner(quick_runner):
    """Makes a runner with spoilt iterations and a checkpoint every second one, and gives what notes its iterations."""

    def make(iterations, max_iters=8, networks=('discriminator',), divergence=None, hooks=None, **kwargs):
        spoiler = Spoiler(iterations, networks)
        divergence = dict(dict(type='DivergenceHook', max_skipped_in_a_row=3), **(divergence or {}))
        model = dict(gan_loss=dict(type='SpoiltLoss'), ema_config=dict(momentum=0.9))
        hooks = dict(divergence=divergence, **(hooks or {}))
        return quick_runner(max_iters, hooks=hooks, model=model, noting=spoiler, **kwargs), spoiler.began

    return make


def counts_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, DivergenceHook)).counts


def rates_of(runner):
    return {name: rates[0] for name, rates in runner.optim_wrapper.get_lr().items()}


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_single_skipped_steps_are_counted_and_the_training_goes_on(spoilt_runner):
    runner, _ = spoilt_runner([2, 3, 5], max_iters=6)
    runner.train()
    folder = Path(runner.work_dir)
    lines = [json.loads(line) for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert [line.get('skipped_steps') for line in lines] == [None, 1, 2, 2, 3, 3]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    warnings = re.findall('WARNING - (iteration .*)', next(folder.glob('*/*.log')).read_text())
    assert warnings == [
        f'iteration {number}: the loss of an update of the discriminator is not finite, so the update is skipped; 3 in a row '
        'are a divergence'
        for number in (2, 5)
    ]
    assert counts_of(runner).skipped == 3
    assert {int(state['step']) for state in runner.optim_wrapper['discriminator'].optimizer.state.values()} == {3}
    runner, _ = spoilt_runner([1], max_iters=7, resume=True)
    runner.train()
    assert counts_of(runner).skipped == 4, 'checkpoints keep the count'


def test_warnings_come_to_an_end(spoilt_runner):
    runner, _ = spoilt_runner(range(1, 25, 2), max_iters=24)
    runner.train()
    warnings = re.findall('WARNING - iteration .*', next(Path(runner.work_dir).glob('*/*.log')).read_text())
    assert len(warnings) == 10 and 'only skipped_steps' in warnings[-1] and counts_of(runner).skipped == 12


def test_a_training_that_diverges_ends_with_a_report(spoilt_runner):
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False))
    runner, _ = spoilt_runner(range(4, 100), hooks=hooks, optim_wrapper=dict(type='BFloat16OptimWrapper'))
    with pytest.raises(DivergenceError) as error:
        runner.train()
    work_dir = Path(runner.work_dir)
    # Those of iterations 4 and 5 were saved when no update was made any more; that of 6 is not saved.
    assert sorted(path.name for path in work_dir.glob('*.pth')) == [f'iter_{number}.pth' for number in range(1, 6)]
    report = str(error.value)
    for part in (
        'the training has diverged: the last 3 updates of the discriminator, from iteration 4 on, had a loss with NaN or Inf',
        'updates skipped in all: 3',
        'learning rates: generator 0.0002, discriminator 0.0002',
        f'newest good checkpoint from before: {work_dir / "iter_3.pth"}\n',
        f'--resume {work_dir / "iter_3.pth"} --cfg-options default_hooks.divergence.type=DivergenceHook '
        'default_hooks.divergence.rollbacks=3',
        'optim_wrapper.type=OptimWrapper',
        'optim_wrapper.clip_grad',
    ):
        assert part in report
    log = load_checkpoint_file(work_dir / 'iter_3.pth')['message_hub']['log_scalars']
    assert f'loss_disc {log["train/loss_disc"].current():.4g}' in report, 'the last finite value'
    assert 'nan' not in report.lower().replace('nan or inf', '')


def test_the_generator_diverges_and_nothing_is_saved_yet(spoilt_runner):
    runner, _ = spoilt_runner(range(1, 100), networks=['generator'], optim_wrapper=dict(clip_grad=dict(max_norm=1.0)))
    with pytest.raises(DivergenceError, match='last 3 updates of the generator, from iteration 1 on') as error:
        runner.train()
    report = str(error.value)
    assert 'newest good checkpoint from before: none' in report and '--resume' not in report
    assert 'loss_disc' in report and 'loss_gen' not in report and 'grad_norm' in report and 'clip_grad' not in report


def test_a_limit_of_none_never_ends_it(spoilt_runner):
    runner, _ = spoilt_runner(range(1, 100), max_iters=6, divergence=dict(max_skipped_in_a_row=None))
    runner.train()
    assert counts_of(runner).skipped == 6


def test_going_back_to_the_newest_checkpoint_from_before(spoilt_runner):
    """Diverged in iterations 6 to 8; iter_6.pth is from after the beginning of it."""
    runner, began = spoilt_runner(
        [6, 7, 8],
        max_iters=10,
        divergence=dict(rollbacks=2, lr_factor=0.5),
        param_scheduler=dict(type='LinearLR', start_factor=1.0, end_factor=0.5, by_epoch=False, begin=0, end=11),
    )
    runner.train()
    assert [entry['iteration'] for entry in began] == [*range(8), *range(4, 10)] and runner.iter == 10
    first, after, saved = began[4], began[8], load_checkpoint_file(Path(runner.work_dir) / 'iter_4.pth')
    assert same(first['model'], after['model']) and same(dict(saved['state_dict']), dict(after['model']))
    assert int(after['model']['iteration']) == 4
    for network, state in after['optimizers'].items():
        assert same(saved['optimizer'][network]['state'], state['state'])
        group, before = state['param_groups'][0], saved['optimizer'][network]['param_groups'][0]
        assert group['lr'] == before['lr'] / 2 and group['initial_lr'] == before['initial_lr'] / 2 == LR / 2
    assert not torch.equal(first['images'], after['images']), 'the data go on'
    assert not torch.equal(first['random'], after['random']), 'the random numbers go on'
    # Ten steps of the schedule, whose tenth multiplies by 0.5.
    assert rates_of(runner) == pytest.approx({'generator.lr': LR / 4, 'discriminator.lr': LR / 4})
    counts = counts_of(runner)
    assert (counts.rollbacks, counts.last_target, counts.lr_scale, counts.skipped) == (1, 4, 0.5, 3)
    assert (Path(runner.work_dir) / 'last_checkpoint').read_text() == str(Path(runner.work_dir) / 'iter_10.pth')


def test_a_resumed_training_keeps_the_lower_rates_and_the_count(spoilt_runner):
    runner, _ = spoilt_runner([3, 4, 5], max_iters=5, divergence=dict(rollbacks=1))
    runner.train()
    runner, _ = spoilt_runner([], max_iters=6, divergence=dict(rollbacks=1), resume=True)
    runner.train()
    assert rates_of(runner) == {'generator.lr': LR / 2, 'discriminator.lr': LR / 2}
    assert counts_of(runner).rollbacks == 1
    runner, _ = spoilt_runner([1, 2, 3], max_iters=9, divergence=dict(rollbacks=1), resume=True)
    with pytest.raises(DivergenceError, match='after going back to a checkpoint once'):
        runner.train()


def test_the_same_divergence_again_goes_further_back(spoilt_runner):
    """Then to the newest one again, which has been saved anew meanwhile."""
    spoilt = [5, 6, 7, 8, 9, 10, 14, 15, 16]
    runner, began = spoilt_runner(spoilt, divergence=dict(rollbacks=3, lr_factor=0.1))
    runner.train()
    assert [entry['iteration'] for entry in began] == [*range(0, 7), *range(4, 7), *range(2, 8), *range(4, 8)]
    assert rates_of(runner)['generator.lr'] == pytest.approx(LR / 1000) and counts_of(runner).rollbacks == 3


def test_going_back_has_a_limit(spoilt_runner):
    runner, _ = spoilt_runner(range(5, 100), divergence=dict(rollbacks=2, lr_factor=0.1))
    with pytest.raises(DivergenceError, match='after going back to a checkpoint 2 times') as error:
        runner.train()
    assert 'learning rates: generator 2e-06, discriminator 2e-06' in str(error.value)
    assert 'updates skipped in all: 9' in str(error.value)


def test_a_divergence_in_the_last_iterations(spoilt_runner):
    """The training is not over then; and the hook that removes old checkpoints counts the newer ones once."""
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=3))
    runner, began = spoilt_runner([6, 7, 8], divergence=dict(rollbacks=1), hooks=hooks)
    runner.train()
    assert runner.iter == 8 and len(began) == 12
    assert sorted(path.name for path in Path(runner.work_dir).glob('*.pth')) == [f'iter_{n}.pth' for n in (4, 6, 8)]


def test_killed_after_going_back(spoilt_runner):
    """A checkpoint that was saved while nothing was learnt is not resumed from."""
    runner, began = spoilt_runner([5, 6, 7], divergence=dict(rollbacks=1))
    folder = Path(runner.work_dir)
    newest = []
    noting = next(hook for hook in runner.hooks if type(hook).__name__ == 'NotingHook')
    noting.function = lambda *args, note=noting.function: (note(*args), newest.append(find_latest_checkpoint(folder)[0]))
    runner.train()
    assert [path and path.name for path in newest[5:9]] == ['iter_4.pth', 'iter_6.pth', 'iter_4.pth', 'iter_4.pth']


def test_nothing_to_go_back_to(spoilt_runner):
    runner, _ = spoilt_runner([1, 2, 3], divergence=dict(rollbacks=1))
    with pytest.raises(DivergenceError, match='newest good checkpoint from before: none'):
        runner.train()


def test_the_hook_is_there_whatever_the_config_leaves_out(tiny_run):
    cfg = tiny_run(max_iters=1)
    cfg.default_hooks.pop('divergence')
    assert sum(isinstance(hook, DivergenceHook) for hook in train_from_config(cfg).hooks) == 1


def test_other_loops_cannot_go_back(spoilt_runner):
    runner, _ = spoilt_runner([], divergence=dict(rollbacks=1), train_cfg=dict(type='mmengine.IterBasedTrainLoop', max_iters=1))
    with pytest.raises(ConfigError, match="the loop IterBasedTrainLoop cannot go back .*'GANTrainLoop'"):
        runner.train()
    assert type(runner.train_loop) is IterBasedTrainLoop


@pytest.mark.parametrize(
    'arguments', [dict(max_skipped_in_a_row=0), dict(rollbacks=-1), dict(lr_factor=0.0), dict(lr_factor=1.5)]
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        DivergenceHook(**arguments)
