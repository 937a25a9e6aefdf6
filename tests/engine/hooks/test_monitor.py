"""Checks before a training, and trainings that diverge."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from mmsagan.apis import train_from_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.engine.hooks import ConsistencyHook, DivergenceHook
from mmsagan.errors import ConfigError, DataError, DivergenceError
from mmsagan.models.losses import HingeGANLoss
from mmsagan.registry import MODELS


@MODELS.register_module()
class SpoiltLoss(HingeGANLoss):
    spoilt = None

    def discriminator_loss(self, real_logits, fake_logits):
        real, fake = super().discriminator_loss(real_logits, fake_logits)
        return (real, fake * math.nan) if self.spoilt == 'discriminator' else (real, fake)

    def generator_loss(self, fake_logits):
        return super().generator_loss(fake_logits) * (math.nan if self.spoilt == 'generator' else 1)


@pytest.fixture
def spoilt_runner(quick_runner):
    """Makes a runner whose given iterations, counted from the first one of this process, have a loss of NaN."""

    def make(iterations, max_iters=8, network='discriminator', limit=3, **kwargs):
        count = 0

        def spoil(runner, batch):
            nonlocal count
            count += 1
            runner.model.gan_loss.spoilt = network if count in iterations else None

        hooks = dict(divergence=dict(type='DivergenceHook', max_skipped_in_a_row=limit))
        model = dict(gan_loss=dict(type='SpoiltLoss'), ema_config=dict(momentum=0.9))
        return quick_runner(max_iters, hooks=hooks, model=model, noting=spoil, **kwargs)

    return make


def skipped_steps(runner) -> list[int | None]:
    newest = max(Path(runner.work_dir).glob('*/vis_data/scalars.json'), key=lambda path: path.stat().st_mtime)
    lines = [json.loads(line) for line in newest.read_text().splitlines()]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    return [line.get('skipped_steps') for line in lines]


def test_single_skipped_steps_are_counted_and_the_training_continues(spoilt_runner):
    runner = spoilt_runner([2, 3, 5], max_iters=6)
    runner.train()
    assert skipped_steps(runner) == [None, 1, 2, 2, 3, 3]
    log = next(Path(runner.work_dir).glob('*/*.log')).read_text()
    assert log.count('WARNING - iteration') == log.count('WARNING - iterations 2 to 2: a step of the discriminator') == 1
    assert {int(state['step']) for state in runner.optim_wrapper['discriminator'].optimizer.state.values()} == {3}
    resumed = spoilt_runner([1], max_iters=7, resume=True)
    resumed.train()
    assert skipped_steps(resumed)[-1] == 4, 'checkpoints keep the count'


def test_a_log_processor_that_does_not_make_hooks_read_what_is_on_the_device(spoilt_runner):
    log_processor = dict(type='mmengine.LogProcessor', by_epoch=False)
    runner = spoilt_runner(range(3, 100), log_processor=log_processor)
    with pytest.raises(DivergenceError, match='after iteration 2'):
        runner.train()
    assert runner.iter == 4 and skipped_steps(runner)[:2] == [None, None]


@pytest.mark.parametrize('network', ['discriminator', 'generator'])
def test_a_training_that_diverges_ends_and_names_the_last_good_checkpoint(spoilt_runner, network):
    """From iteration 4 on, after which iter_4.pth is saved; iter_6.pth is not, since the third step is the last one."""
    runner = spoilt_runner(range(4, 100), network=network)
    with pytest.raises(DivergenceError) as error:
        runner.train()
    assert sorted(path.name for path in Path(runner.work_dir).glob('*.pth')) == ['iter_2.pth', 'iter_4.pth']
    assert network in str(error.value) and str(Path(runner.work_dir, 'iter_2.pth')) in str(error.value)
    assert '\n' not in str(error.value) and 'iter_4' not in str(error.value)


def test_a_divergence_before_the_first_checkpoint(spoilt_runner):
    runner = spoilt_runner(range(1, 100), limit=1)
    with pytest.raises(DivergenceError, match='none was saved'):
        runner.train()
    unlimited = spoilt_runner(range(1, 100), max_iters=4, limit=None)
    unlimited.train()
    assert skipped_steps(unlimited)[-1] == 4


@pytest.mark.parametrize(
    'options, key',
    [
        (dict(model__num_classes=7), r'model\.num_classes=10'),
        (dict(train_dataloader__dataset__image_size=40), r'\(3, 40, 40\).*\(3, 32, 32\)'),
        (dict(train_dataloader__dataset__pipeline=[]), 'PackInputs'),
    ],
)
def test_data_that_does_not_fit_the_model(tiny_run, options, key):
    with pytest.raises(DataError, match=key):
        Runner.from_cfg(tiny_run(**options)).train()


def test_the_hooks_are_there_whatever_the_config_leaves_out(tiny_run):
    cfg = tiny_run(max_iters=1)
    del cfg.default_hooks['divergence'], cfg.default_hooks['consistency']
    hooks = [type(hook) for hook in train_from_config(cfg).hooks]
    assert hooks.count(DivergenceHook) == hooks.count(ConsistencyHook) == 1


WARMUP = dict(type='LinearLR', start_factor=0.5, end=8, by_epoch=False)


@pytest.fixture
def resumed(tiny_run):
    """Trains for two iterations, resumes with changes, and returns the warnings of the resumed run."""

    def run(work_dir='run', files=lambda: None, max_iters=2, both=None, **changes) -> list[str]:
        options = dict(linear=True, custom_hooks=[], val_evaluator=None)
        options.update(both or {})
        first = tiny_run(max_iters=2, **{**options, 'param_scheduler': changes.pop('before', [WARMUP])})
        train_from_config(first)
        files()
        cfg = tiny_run(max_iters=max_iters, **{**options, 'param_scheduler': [WARMUP], **changes})
        cfg.update(work_dir=str(Path(first.work_dir).with_name(work_dir)), resume=True)
        cfg.load_from = str(Path(first.work_dir, 'iter_2.pth'))
        groups = train_from_config(cfg).optim_wrapper['generator'].optimizer.param_groups
        assert {group['betas'] for group in groups} == {(0.5, 0.999)}, "the checkpoint's"
        log = max(Path(cfg.work_dir).glob('*/*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()
        return [
            part
            for part in re.split(r'\n(?=\d{4}/)', log)
            if ' - WARNING - ' in part and not re.search('FileClient|HardDisk', part)
        ]

    return run


@pytest.mark.parametrize(
    'changes',
    [
        dict(),
        dict(work_dir='elsewhere'),
        dict(train_dataloader__batch_size=4, max_iters=3),
        dict(train_dataloader__num_workers=1, model__fast=False),
        dict(before=None, param_scheduler=None),
    ],
)
def test_a_resumed_training_without_differences_has_no_warnings(resumed, changes):
    assert resumed(**changes) == []


def test_data_in_another_place_and_a_config_that_is_not_plain_data(resumed, tmp_path, cifar_root):
    """The config in a checkpoint is data, which is never executed."""
    (tmp_path / 'link').symlink_to(cifar_root)

    def spoil():
        content = load_checkpoint_file(tmp_path / 'run' / 'iter_2.pth')
        content['meta']['cfg'] = content['meta']['cfg'].replace(
            'model = ', f"model = open({str(tmp_path / 'new')!r}, 'w') or ", 1
        )
        torch.save(content, tmp_path / 'run' / 'iter_2.pth')

    assert resumed(files=spoil, train_dataloader__dataset__data_root=str(tmp_path / 'link')) == []
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
    'changes, key, effect',
    [
        (dict(param_scheduler=[dict(WARMUP, end=4)]), 'param_scheduler.0.end: 8 -> 4', "the checkpoint's stays"),
        (dict(param_scheduler=None), "param_scheduler.0.type: 'LinearLR' -> not set", 'stays as it is'),
        (
            dict(optim_wrapper__generator__optimizer__betas=(0.1, 0.9)),
            'optim_wrapper.generator.optimizer.betas: (0.5, 0.999) -> (0.1, 0.9)',
            "the checkpoint's stays",
        ),
        (dict(model__gan_loss=dict(type='WassersteinGANLoss')), 'model.gan_loss.type', 'used from here on'),
        (dict(model__discriminator_steps=3), 'model.discriminator_steps: ', 'used from here on'),
        (dict(model__ema_config=dict(momentum=0.9)), 'model.ema_config', 'used from here on'),
        (dict(train_dataloader__dataset__indices=60), 'train_dataloader.dataset: 100 -> 60 images', 'another order'),
        (dict(max_iters=1), 'train_cfg.max_iters=1', 'iteration 2'),
    ],
)
def test_differences_from_the_checkpoint_are_listed_with_their_effect(resumed, changes, key, effect):
    lines = [line for warning in resumed(**changes) for line in warning.splitlines()]
    assert any(key in line and effect in line for line in lines), lines


@pytest.mark.parametrize(
    'changes, key',
    [
        (dict(optim_wrapper__generator__optimizer=dict(type='SGD', lr=0.1, _delete_=True)), r'generator\.optimizer\.type'),
        (dict(before=None), r'param_scheduler\.0\.type: not set -> '),
        (dict(param_scheduler=[WARMUP, dict(WARMUP, begin=8, end=9)]), r'param_scheduler\.1\.type'),
        (dict(param_scheduler=[dict(type='ConstantLR', end=8, by_epoch=False)]), r'param_scheduler\.0\.type'),
    ],
)
def test_what_cannot_be_resumed_with_another_config(resumed, changes, key):
    with pytest.raises(ConfigError, match=key):
        resumed(**changes)


def test_classes_in_another_order_are_refused_and_other_names_are_listed(resumed, tmp_path):
    for number in range(6):
        path = tmp_path / 'images' / 'bcd'[number % 3] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 32)).save(path)
    dataset = dict(
        type='ImageFolder',
        data_root=str(tmp_path / 'images'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    )
    both = dict(train_dataloader__dataset={**dataset, '_delete_': True}, model__num_classes=3)

    def rename(was, is_now):
        (tmp_path / 'images' / was).rename(tmp_path / 'images' / is_now)

    warnings = resumed(files=lambda: rename('d', 'e'), both=both)
    assert len(warnings) == 1 and 'd -> e' in warnings[0]
    with pytest.raises(ConfigError, match='class b was label 0 and is 1'):
        resumed(files=lambda: rename('c', 'a'), both=both)
