import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmsagan.apis.train import enable_auto_scale_lr, summary, train_from_config, use_mixed_precision
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.engine.hooks import ConsistencyHook
from mmsagan.errors import CheckpointError, ConfigError, DataError
from mmsagan.registry import HOOKS

INTERVALS = {'default_hooks.checkpoint.interval': 2, 'custom_hooks': []}


@HOOKS.register_module()
class FailingHook(Hook):
    """Fails in a chosen iteration."""

    def __init__(self, iteration: int):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise RuntimeError('made to fail')


def test_a_run_leaves_checkpoints_samples_and_logs(tiny_run):
    cfg = tiny_run(max_iters=5, **{'default_hooks.checkpoint.interval': 2, 'default_hooks.checkpoint.max_keep_ckpts': 2})
    runner = train_from_config(cfg)
    work_dir = Path(cfg.work_dir)
    assert sorted(path.name for path in work_dir.glob('*.pth')) == ['iter_4.pth', 'iter_5.pth']
    text = summary(runner)
    for path in ('iter_5.pth', 'samples/fake_img_5.png', f'{runner.timestamp}.log'):
        assert str(work_dir) in text and path in text
    lines = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    keys = {'loss_disc', 'loss_disc_real', 'loss_disc_fake', 'logits_real', 'logits_fake', 'generator.lr', 'discriminator.lr'}
    assert len(lines) == 5 and all(keys <= set(line) for line in lines)
    assert ['loss_gen' in line for line in lines] == [False] * 4 + [True], 'dist_step is 5'
    assert load_checkpoint_file(work_dir / 'iter_5.pth')['state_dict']['iteration'] == 5


def test_resuming_goes_on_where_it_was(tiny_run):
    """4 + 2 iterations leave the optimizer's and the schedule's counters where 6 iterations do."""
    cfg = tiny_run(max_iters=4, **INTERVALS, model__discriminator_steps=3)
    train_from_config(cfg)
    cfg = tiny_run(max_iters=6, **INTERVALS, model__discriminator_steps=3)
    cfg.resume = True
    runner = train_from_config(cfg)
    assert runner.iter == 6 and int(runner.model.iteration) == 6
    steps = {
        name: {int(state['step']) for state in wrapper.optimizer.state.values()}
        for name, wrapper in runner.optim_wrapper.items()
    }
    assert steps == {'generator': {2}, 'discriminator': {6}}


def test_resuming_from_a_named_checkpoint(tiny_run):
    cfg = tiny_run(max_iters=4, **INTERVALS)
    train_from_config(cfg)
    cfg = tiny_run(max_iters=3, **INTERVALS)
    cfg.resume, cfg.load_from = True, str(Path(cfg.work_dir) / 'iter_2.pth')
    assert train_from_config(cfg).iter == 3


def test_mixed_precision(tiny_run):
    cfg = tiny_run(max_iters=1)
    use_mixed_precision(cfg)
    runner = train_from_config(cfg)
    assert {type(wrapper).__name__ for wrapper in runner.optim_wrapper.values()} == {'BFloat16OptimWrapper'}
    assert all(parameter.dtype == torch.float32 for parameter in runner.model.parameters())


def test_auto_scale_lr(tiny_run):
    cfg = tiny_run(max_iters=1)
    enable_auto_scale_lr(cfg)
    runner = train_from_config(cfg)
    # Batch 4 instead of 64.
    assert runner.optim_wrapper['generator'].optimizer.param_groups[0]['lr'] == pytest.approx(2e-4 / 16)
    cfg.pop('auto_scale_lr')
    with pytest.raises(ConfigError, match='base_batch_size'):
        enable_auto_scale_lr(cfg)


@pytest.mark.parametrize(
    'options, error',
    [
        ({'train_dataloader.dataset.data_root': 'gone'}, DataError),
        ({'model.num_classes': 7}, DataError),
        ({'model.generator.output_scale': 33}, ConfigError),
        ({'model.generator.typo': 1}, ConfigError),
        ({'train_dataloader.batch_size': 6, 'optim_wrapper.accumulative_counts': 4}, ConfigError),
        ({'custom_hooks': [dict(type='FailingHook', iteration=0)]}, RuntimeError),
    ],
)
def test_a_run_that_does_not_start_leaves_nothing(tiny_run, options, error):
    cfg = tiny_run(**options)
    with pytest.raises(error):
        train_from_config(cfg)
    assert not Path(cfg.work_dir).exists()


def test_a_run_that_does_not_start_leaves_older_files_alone(tiny_run):
    train_from_config(tiny_run(max_iters=1, **INTERVALS))
    cfg = tiny_run(max_iters=1, **{'custom_hooks': [dict(type='FailingHook', iteration=0)]})
    before = {path.name for path in Path(cfg.work_dir).iterdir()}
    with pytest.raises(RuntimeError):
        train_from_config(cfg)
    assert {path.name for path in Path(cfg.work_dir).iterdir()} == before


def test_a_run_that_fails_later_keeps_what_it_has(tiny_run):
    cfg = tiny_run(
        max_iters=4, **{'default_hooks.checkpoint.interval': 2, 'custom_hooks': [dict(type='FailingHook', iteration=3)]}
    )
    with pytest.raises(RuntimeError, match='made to fail'):
        train_from_config(cfg)
    assert (Path(cfg.work_dir) / 'iter_2.pth').is_file()


def test_the_data_is_checked_whatever_the_config_leaves_out(tiny_run):
    cfg = tiny_run(max_iters=1)
    cfg.default_hooks.pop('consistency')
    runner = train_from_config(cfg)
    assert sum(isinstance(hook, ConsistencyHook) for hook in runner.hooks) == 1


def test_image_folder_from_another_layout(tiny_run, tmp_path, imagenet_root):
    """Any folder of class folders trains; images that cannot be read are skipped."""
    shutil.copytree(imagenet_root / 'train', tmp_path / 'mine')
    broken = next((tmp_path / 'mine').rglob('*.JPEG'))
    broken.write_bytes(broken.read_bytes()[:200])
    dataset = dict(
        _delete_=True,
        type='ImageFolder',
        data_root=str(tmp_path / 'mine'),
        max_unreadable_share=0.2,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='CenterCropLongEdge'),
            dict(type='Resize', scale=(32, 32), backend='pillow'),
            dict(type='PackInputs'),
        ],
    )
    cfg = tiny_run(max_iters=3, model__num_classes=3)
    cfg.merge_from_dict(dict(train_dataloader=dict(dataset=dataset)))
    with pytest.warns(UserWarning, match='unreadable image skipped'):
        assert train_from_config(cfg).iter == 3


@pytest.mark.parametrize('resume', [True, False])
def test_a_checkpoint_of_another_architecture(tiny_run, resume):
    train_from_config(tiny_run(max_iters=1, **INTERVALS))
    cfg = tiny_run(max_iters=2, model__generator__base_channels=16, **INTERVALS)
    cfg.resume, cfg.load_from = resume, str(Path(cfg.work_dir) / 'iter_1.pth')
    with pytest.raises(CheckpointError, match=r'noise2feat.* is \(128,\) there and \(256,\) in the model'):
        train_from_config(cfg)


def test_weights_of_a_run_without_a_moving_average(tiny_run):
    train_from_config(tiny_run(max_iters=1, **INTERVALS))
    cfg = tiny_run(max_iters=1, model__ema_config=dict(momentum=0.9), **INTERVALS)
    cfg.load_from = str(Path(cfg.work_dir) / 'iter_1.pth')
    assert train_from_config(cfg).iter == 1


def test_a_failed_run_takes_only_its_own_files_away(tiny_run):
    """Another run may be writing checkpoints into the same folder meanwhile."""
    cfg = tiny_run(max_iters=1)
    cfg.custom_hooks = [dict(type='NeighbourHook')]
    with pytest.raises(RuntimeError):
        train_from_config(cfg)
    assert [path.name for path in Path(cfg.work_dir).iterdir()] == ['iter_7.pth']


@HOOKS.register_module()
class NeighbourHook(Hook):
    """Writes what another run would write, then fails."""

    def before_train(self, runner):
        (Path(runner.work_dir) / 'iter_7.pth').write_text('of another run')
        raise RuntimeError('made to fail')


def test_a_file_for_a_work_dir(tiny_run, tmp_path):
    cfg = tiny_run()
    (tmp_path / 'run').write_text('')
    with pytest.raises(ConfigError, match='is a file'):
        train_from_config(cfg)


def test_what_cannot_be_built_is_the_configs_mistake(tiny_run):
    with pytest.raises(ConfigError, match='the experiment cannot be built: .*betas'):
        train_from_config(tiny_run(**{'optim_wrapper.generator.optimizer.betas': (0, 0.9)}))


def test_mixed_precision_leaves_the_other_settings_of_the_wrappers(tiny_run):
    cfg = tiny_run()
    clipping = dict(type='value', clip_value=1.0)
    cfg.merge_from_dict({'optim_wrapper.clip_grad': clipping, 'optim_wrapper.generator.type': 'OptimWrapper'})
    use_mixed_precision(cfg)
    assert cfg.optim_wrapper.type == 'BFloat16OptimWrapper' and 'type' not in cfg.optim_wrapper.generator
    assert cfg.optim_wrapper.clip_grad == clipping and cfg.optim_wrapper.generator.optimizer.type == 'Adam'
