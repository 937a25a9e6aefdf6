"""The watch on the diversity of the samples."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from mmsagan.evaluation import SampleInputs
from mmsagan.registry import MODELS


@MODELS.register_module()
class PainterGenerator(torch.nn.Module):
    """Grey images: the level of the class, and as much of the noise's first number as ``share`` says."""

    noise_size = 4
    output_scale = 32

    def __init__(self, share=0.0, num_classes=10):
        super().__init__()
        self.share = share
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, noise, label=None):
        level = self.share * noise[:, 0].clamp(-1, 1) + 0 * self.unused
        if label is not None:
            level = level + label / 10 - 0.5
        return level[:, None, None, None].expand(-1, 3, 32, 32)


@pytest.fixture
def train(quick_runner):
    """Trains with the hook; returns the logged diversities and the iterations of the warnings."""

    def run(max_iters, share, work_dir='run', num_classes=10, resume=False, **kwargs):
        hook = dict(type='CollapseHook', **dict(dict(interval=2, warmup=0), **kwargs))
        model = dict(generator=dict(type='PainterGenerator', share=share), num_classes=num_classes)
        batches = []

        def note(runner, batch):
            batches.append(torch.stack(list(batch['inputs'])))

        runner = quick_runner(max_iters, dict(collapse=hook), model, None, work_dir, 40, note, resume=resume)
        runner.batches = batches
        runner.train()
        folder = Path(runner.work_dir, runner.timestamp)
        lines = [json.loads(line) for line in (folder / 'vis_data/scalars.json').read_text().splitlines()]
        warnings = re.findall(r'WARNING - iteration (\d+): diversity', (folder / f'{runner.timestamp}.log').read_text())
        return [line.get('diversity') for line in lines], warnings, runner

    return run


@pytest.mark.parametrize('num_classes', [10, 0])
def test_a_collapsed_generator(train, num_classes):
    """One image per class: that the classes differ does not count. One warning is enough."""
    assert train(6, 0.0, num_classes=num_classes)[:2] == ([None, 0, 0, 0, 0, 0], ['2'])


def test_warmup_and_threshold(train):
    assert train(6, 0.0, warmup=3)[1] == ['4']
    assert train(6, 0.0, work_dir='other', threshold=0)[1] == []


def test_a_diverse_generator(train):
    """The mean over the pairs of each class, compared with that of the first real images; the same when it is resumed."""
    found, warnings, runner = train(4, 0.8, num_samples=5)
    noise = SampleInputs(4, seed=(0, 0)).noise(0, 40)[:, 0].clamp(-1, 1)
    grey = (127.5 * (0.8 * noise + torch.arange(8).repeat_interleave(5) / 10 - 0.5) + 127.5).round().clamp(0, 255)
    fake = np.mean([pdist(group[:, None].expand(-1, 3072).numpy()).mean() for group in grey.split(5)])
    expected = fake / pdist(runner.batches[0].flatten(1)).mean()
    assert found[-1] == pytest.approx(expected, rel=1e-4) and expected > 0.5 and not warnings
    resumed, *_ = train(6, 0.8, num_samples=5, resume=True)
    assert resumed[-2:] == [found[-1]] * 2


def test_the_training_is_the_same_with_it_and_without(quick_runner):
    states = []
    for number, hooks in enumerate([dict(collapse=dict(type='CollapseHook', interval=1)), {}]):
        runner = quick_runner(3, hooks, work_dir=f'run{number}')
        runner.train()
        states.append((torch.get_rng_state(), *runner.model.state_dict().values()))
    assert len(states[0]) > 5 and all(map(torch.equal, *states))
