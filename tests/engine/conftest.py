"""Runs of a few milliseconds an iteration."""

import itertools

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner, runner

from mmsagan.registry import HOOKS

_numbers = itertools.count()


@HOOKS.register_module()
class NotingHook(Hook):
    """Has a function called at the beginning of every iteration: function(runner, batch)."""

    def __init__(self, function):
        self.function = function

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.function(runner, data_batch)


@pytest.fixture
def quick_runner(tmp_path, cifar_root, monkeypatch):
    """Makes the runner of a small training: quick_runner(max_iters, hooks=dict(...), model=dict(...), **runner's arguments)."""
    monkeypatch.setattr(runner, 'collect_env', dict)  # it asks compilers for their versions

    def make(
        max_iters=4, hooks=None, model=None, optim_wrapper=None, work_dir='run', batch_size=4, noting=None, **kwargs
    ) -> Runner:
        adam = dict(optimizer=dict(type='Adam', lr=2e-4))
        defaults = dict(
            model={
                'type': 'SAGAN',
                'num_classes': 10,
                'generator': dict(type='LinearGeneratorWithNorm'),
                'discriminator': dict(type='LinearDiscriminator'),
                **(model or {}),
            },
            work_dir=str(tmp_path / work_dir),
            train_dataloader=dict(
                batch_size=batch_size,
                num_workers=0,
                dataset=dict(type='CIFAR10', data_root=str(cifar_root), pipeline=[dict(type='PackInputs')]),
                sampler=dict(type='InfiniteSampler', shuffle=True),
                collate_fn=dict(type='mmsagan.collate_batch'),
            ),
            train_cfg=dict(type='GANTrainLoop', max_iters=max_iters),
            optim_wrapper={
                'constructor': 'MultiOptimWrapperConstructor',
                'generator': adam,
                'discriminator': adam,
                **(optim_wrapper or {}),
            },
            default_hooks={
                'logger': dict(type='LoggerHook', interval=1),
                'checkpoint': dict(type='CheckpointHook', interval=2, by_epoch=False),
                **(hooks or {}),
            },
            custom_hooks=[dict(type='NotingHook', function=noting)] if noting else [],
            default_scope='mmsagan',
            randomness=dict(seed=2022),
            log_processor=dict(type='LogProcessor', by_epoch=False, mean_pattern='.*(loss|logits|time).*'),
            experiment_name=f'quick-{next(_numbers)}',
        )
        return Runner(**{**defaults, **kwargs})

    return make
