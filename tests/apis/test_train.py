"""Trainings from Python: what they leave behind, and what they refuse."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmsagan.apis import experiment
from mmsagan.apis.experiment import train_from_config, training_summary, use_mixed_precision
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.errors import CheckpointError, ConfigError, DataError
from mmsagan.registry import HOOKS

INTERVALS = {'default_hooks.checkpoint.interval': 2, 'custom_hooks': []}


def test_a_run_leaves_checkpoints_samples_and_logs_and_is_resumed_from_a_named_one(tiny_run):
    cfg = tiny_run(max_iters=5, **{'default_hooks.checkpoint.interval': 2, 'default_hooks.checkpoint.max_keep_ckpts': 2})
    runner = train_from_config(cfg)
    work_dir = Path(cfg.work_dir)
    assert sorted(path.name for path in work_dir.glob('*.pth')) == ['iter_4.pth', 'iter_5.pth']
    text = training_summary(runner)
    for path in ('iter_5.pth', 'samples/fake_img_5.png', f'{runner.timestamp}.log'):
        assert str(work_dir) in text and path in text
    lines = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    keys = {'loss_disc', 'loss_disc_real', 'loss_disc_fake', 'logits_real', 'logits_fake', 'generator.lr', 'discriminator.lr'}
    assert len(lines) == 5 and all(keys <= set(line) for line in lines)
    assert ['loss_gen' in line for line in lines] == [False] * 4 + [True], 'dist_step is 5'
    assert load_checkpoint_file(work_dir / 'iter_5.pth')['state_dict']['iteration'] == 5
    named = tiny_run(max_iters=6, **INTERVALS)
    named.update(resume=True, load_from=str(work_dir / 'iter_4.pth'), work_dir=cfg.work_dir + '_named')
    runner = train_from_config(named)
    assert runner.iter == 6 and int(runner.model.iteration) == 6


def test_options_of_the_command_line(tiny_run):
    cfg = tiny_run(max_iters=1, **INTERVALS)
    clipping = dict(type='value', clip_value=1.0)
    cfg.merge_from_dict({'optim_wrapper.clip_grad': dict(clipping), 'optim_wrapper.generator.type': 'OptimWrapper'})
    use_mixed_precision(cfg)
    cfg.auto_scale_lr.enable = True
    assert 'type' not in cfg.optim_wrapper.generator and cfg.optim_wrapper.clip_grad == clipping
    runner = train_from_config(cfg)
    assert {type(wrapper).__name__ for wrapper in runner.optim_wrapper.values()} == {'BFloat16OptimWrapper'}
    assert all(parameter.dtype == torch.float32 for parameter in runner.model.parameters())
    assert runner.optim_wrapper['generator'].optimizer.param_groups[0]['lr'] == pytest.approx(2e-4 / 16)


@pytest.mark.parametrize(
    'is_gpu, fast, expected',
    [(True, False, 'AmpOptimWrapper'), (True, True, 'BFloat16OptimWrapper'), (False, False, 'BFloat16OptimWrapper')],
)
def test_gpus_without_bfloat16_train_in_float16(monkeypatch, is_gpu, fast, expected):
    monkeypatch.setattr(experiment, 'is_cuda_available', lambda: is_gpu)
    monkeypatch.setattr(experiment, 'has_fast_bfloat16', lambda: fast)
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper', generator=dict(type='OptimWrapper', optimizer=dict(lr=1)))))
    use_mixed_precision(cfg)
    assert cfg.optim_wrapper == dict(type=expected, generator=dict(optimizer=dict(lr=1)))


@pytest.mark.parametrize(
    'options, error, key',
    [
        ({'train_dataloader.dataset.data_root': 'gone'}, DataError, 'gone'),
        ({'model.generator.output_scale': 33}, ConfigError, '33'),
        ({'train_dataloader.batch_size': 6, 'optim_wrapper.accumulative_counts': 4}, ConfigError, 'accumulative_counts'),
    ],
)
def test_runs_that_do_not_start(tiny_run, options, error, key):
    with pytest.raises(error, match=key):
        train_from_config(tiny_run(**options))
    cfg = tiny_run()
    cfg.work_dir += '_is_a_file'
    Path(cfg.work_dir).touch()
    with pytest.raises(ConfigError, match=cfg.work_dir):
        train_from_config(cfg)


def test_hooks_learn_why_a_run_has_ended(tiny_run):
    reasons = []

    class Failing(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            raise RuntimeError('made to fail')

        def on_exception(self, runner, error):
            reasons.append(error)

    HOOKS.register_module(name='Failing', module=Failing, force=True)
    with pytest.raises(RuntimeError, match='made to fail') as failure:
        train_from_config(tiny_run(custom_hooks=[dict(type='Failing')]))
    assert reasons == [failure.value]


def test_checkpoints_of_another_architecture(tiny_run):
    train_from_config(tiny_run(max_iters=1, **INTERVALS))
    for resume in (True, False):
        cfg = tiny_run(max_iters=2, model__generator__base_channels=16, **INTERVALS)
        cfg.resume, cfg.load_from = resume, str(Path(cfg.work_dir) / 'iter_1.pth')
        with pytest.raises(CheckpointError, match=r'noise2feat.*\(128,\).*\(256,\)'):
            train_from_config(cfg)
    cfg = tiny_run(max_iters=1, model__ema_config=dict(momentum=0.9), **INTERVALS)
    cfg.load_from = str(Path(cfg.work_dir) / 'iter_1.pth')
    assert train_from_config(cfg).iter == 1
