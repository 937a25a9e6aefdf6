import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from scipy.spatial.distance import pdist

from mmsagan.engine.hooks import CollapseHook
from mmsagan.errors import ConfigError
from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.diversity import RealPairs
from mmsagan.models import to_uint8
from mmsagan.registry import MODELS

SAGAN = dict(
    generator=dict(type='SAGANGenerator', output_scale=32, base_channels=4, noise_size=8, with_spectral_norm=True),
    discriminator=dict(type='ProjDiscriminator', input_scale=32, base_channels=4),
    ema_config=dict(momentum=0.9),
)


@MODELS.register_module()
class PainterGenerator(torch.nn.Module):
    """Grey images: the class's level, and as much of the noise's first number as ``share`` says."""

    noise_size = 4
    output_scale = 32

    def __init__(self, share=0.0, num_classes=10, darkest=-0.5):
        super().__init__()
        self.share, self.darkest = share, darkest
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, noise, label=None):
        level = self.share * noise[:, 0].clamp(-1, 1) + self.unused
        if label is not None:
            level = level + label / 10 + self.darkest
        return level[:, None, None, None].expand(-1, 3, 32, 32)


@pytest.fixture
def watched(quick_runner):
    """Trains with the hook, and gives the runner, the logged lines and the warnings.

    With 40 images a batch, two batches have enough pairs of the ten classes.
    """
    numbers = itertools.count()

    def train(max_iters=6, model=None, batch_size=40, real_pairs=None, optim_wrapper=None, **arguments):
        hook = dict(dict(type='CollapseHook', interval=2, warmup=0), **arguments)
        work_dir = f'run{next(numbers)}'
        runner = quick_runner(max_iters, dict(collapse=hook), model, optim_wrapper, work_dir=work_dir, batch_size=batch_size)
        hook_of(runner).real_pairs = real_pairs or RealPairs()
        runner.train()
        folder = Path(runner.work_dir)
        lines = [json.loads(line) for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()]
        warnings = re.findall('WARNING - (iteration .*)', next(folder.glob('*/*.log')).read_text())
        return runner, lines, warnings

    return train


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, CollapseHook))


def painter(share):
    return dict(generator=dict(type='PainterGenerator', share=share))


def test_a_collapsed_generator(watched):
    """One image a class: the classes' difference does not count as diversity."""
    runner, lines, warnings = watched(24, painter(0.0))
    assert 'real images of the same class' in next(Path(runner.work_dir).glob('*/*.log')).read_text()
    assert ['diversity' in line for line in lines] == [False] + [True] * 23, 'every line from the first look on'
    assert all(line['diversity'] == 0 for line in lines[1:])
    assert [re.match(r'iteration (\d+): ', warning)[1] for warning in warnings] == ['2', '22'], 'not all the time'
    assert 'only 0.0 % of what real images do (diversity 0.000, threshold 0.1)' in warnings[0]


def test_a_diverse_generator(watched, cifar_arrays):
    runner, lines, warnings = watched(10, painter(0.8), num_noises=5, classes=[2, 7], seed=3)
    assert warnings == []
    # All pairs of the same class among the training images, in place of some of them.
    images, labels = cifar_arrays
    real = np.mean([pdist(images[labels == label].reshape(10, -1) / 255).mean() for label in range(10)])
    noise = SampleInputs(4, seed=(3, 0)).noise(0, 10)[:, 0].clamp(-1, 1)
    grey = (127.5 * (0.8 * noise + torch.tensor([2, 7]).repeat_interleave(5) / 10 - 0.5) + 127.5).round().clamp(0, 255)
    fake = np.mean([pdist(group[:, None].expand(-1, 3072).numpy() / 255).mean() for group in grey.split(5)])
    assert lines[-1]['diversity'] == pytest.approx(fake / real, rel=0.02) and fake / real > 0.5


def test_the_newest_value_is_logged_not_a_mean(watched):
    runner, lines, _ = watched(9, interval=4)
    history, _ = runner.message_hub.get_scalar('train/diversity').data
    assert len(history) == 2 and history[0] != history[1], 'the generator has been trained in between'
    logged = [line.get('diversity') for line in lines]
    assert logged == [None] * 3 + [history[0]] * 4 + [history[1]] * 2


def test_warmup_and_threshold(watched):
    assert watched(6, painter(0.0), warmup=7)[2] == []
    assert watched(6, painter(0.0), threshold=0)[2] == []
    assert 'iteration 4' in watched(6, painter(0.0), warmup=3)[2][0]


def test_a_model_without_classes(watched):
    _, lines, warnings = watched(4, dict(painter(0.0), num_classes=0))
    assert lines[-1]['diversity'] == 0 and warnings
    _, lines, warnings = watched(4, dict(painter(0.8), num_classes=0))
    assert lines[-1]['diversity'] > 0.3 and not warnings


def test_too_few_pairs_of_a_class(watched):
    """They are waited for; after a while, samples are compared whatever their classes, as is logged."""
    runner, lines, _ = watched(8, painter(0.0), batch_size=4, real_pairs=RealPairs(max_batches=5))
    assert ['diversity' in line for line in lines] == [False] * 5 + [True] * 3
    hook, model = hook_of(runner), runner.model
    grid = to_uint8(model.sample(torch.zeros(8, 4), torch.arange(8))).flatten(1).numpy() / 255
    same, different = 8 * 8 * 7 // 2, 8 * 8 * 8 * 7 // 2
    expected = pdist(grid).mean() / np.sqrt(3072) * different / (same + different)
    assert lines[-1]['diversity'] == pytest.approx(expected / hook.real_pairs.of_any_class.mean, rel=1e-4) and expected > 0.1
    log = next(Path(runner.work_dir).glob('*/*.log')).read_text()
    assert log.count('real images of any classes, since few are of the same class') == 1


@pytest.mark.parametrize('sample_model', ['orig', 'ema'])
def test_the_training_is_the_same_with_it_and_without(quick_runner, sample_model):
    hooks = [dict(collapse=dict(type='CollapseHook', interval=1, sample_model=sample_model)), {}]
    states = []
    for number, hook in enumerate(hooks):
        runner = quick_runner(3, hooks=hook, model=SAGAN, work_dir=f'run{number}')
        runner.train()
        states.append((runner.model.state_dict(), runner.optim_wrapper.state_dict(), torch.get_rng_state()))
    (model, optimizers, random), (plain, plain_optimizers, plain_random) = states
    assert len(model) > 100 and all(torch.equal(model[name], plain[name]) for name in model)
    assert torch.equal(random, plain_random)
    for network in optimizers:
        for index, state in optimizers[network]['state'].items():
            assert all(torch.equal(state[key], plain_optimizers[network]['state'][index][key]) for key in state)


def test_nothing_is_collected_once_there_is_enough(watched):
    runner, _, _ = watched(4, batch_size=4)
    pairs = hook_of(runner).real_pairs
    pairs._num_batches = pairs.max_batches
    count = pairs.of_any_class.count
    runner.call_hook('after_train_iter', batch_idx=4, data_batch=dict(inputs=None), outputs={})
    assert pairs.of_any_class.count == count == 8


def test_a_discriminator_that_wins(watched):
    """A generator that cannot learn anything, and a discriminator that learns fast."""
    model = dict(generator=dict(type='PainterGenerator', darkest=0.5))
    fast = dict(discriminator=dict(optimizer=dict(type='Adam', lr=1e-3)))
    runner, lines, warnings = watched(60, model, threshold=0, interval=20, optim_wrapper=fast)
    assert lines[-1]['loss_disc'] < 0.01 and lines[-1]['logits_gap'] > 2
    assert len(warnings) == 1 and 'in the last 20 iterations the discriminator has told real from fake' in warnings[0]


@pytest.mark.parametrize(
    'loss, gap, won',
    [(0.001, 3.0, True), (0.009, 3.0, True), (0.011, 3.0, False), (-0.001, 3.0, False), (0.001, -3.0, False)],
)
def test_when_the_discriminator_has_won(loss, gap, won):
    """By the means over the last interval; losses of 0 with a gap of the wrong sign are no victory."""
    messages = []
    hub = MessageHub.get_instance(f'{loss} {gap}')
    runner = SimpleNamespace(message_hub=hub, iter=99, logger=SimpleNamespace(warning=messages.append))
    hook = CollapseHook(interval=10, warmup=0)
    hook._look_at_discriminator(runner)
    for name, value in (('loss_disc_real', loss), ('loss_disc_fake', loss), ('logits_gap', gap)):
        for number in range(30):
            # A mean of the value in the last ten iterations, and of something else before.
            hub.update_scalar(f'train/{name}', 7.0 if number < 20 else value * (number % 2) * 2)
    hook._look_at_discriminator(runner)
    assert bool(messages) == won
    if won:
        assert messages[0].startswith('iteration 100: in the last 10 iterations') and 'logits_gap 3)' in messages[0]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(classes=[10]), 'class 10 is out of range, the model has 10'),
        (dict(sample_model='ema'), 'CollapseHook: .*no moving average'),
        (dict(interval=0), 'interval must be at least 1'),
        (dict(num_noises=1), 'num_noises at least 2'),
    ],
)
def test_what_cannot_be_done_is_found_before_training(watched, arguments, message):
    with pytest.raises(ConfigError, match=message):
        watched(**arguments)
