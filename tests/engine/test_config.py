"""Configs: loading, completing, checking, comparing; and the environment that launchers set."""

import os

import pytest
import torch
from mmengine.config import Config

from mmsagan.engine import distributed
from mmsagan.engine.config import check_config, complete_evaluation, complete_loader, load_config
from mmsagan.engine.distributed import join_processes, prepare_distributed
from mmsagan.errors import ConfigError


@pytest.mark.parametrize(
    'options, key',
    [
        ({'model.generator.type': 'SAGANGenerater'}, r"model\.generator\.type='SAGANGenerater'.*'SAGANGenerator'"),
        ({'model.generator.base_chanels': 8}, r"model\.generator\.base_chanels: SAGANGenerator .*'base_channels'"),
        ({'model.ema_config.momentun': 0.9}, r"ema_config\.momentun: GeneratorEMA .*'momentum'"),
        ({'train_dataloader.dataset.pipeline': [dict(type='PackInput')]}, r"pipeline\[0\]\.type='PackInput' .*'PackInputs'"),
        ({'optim_wrapper.generator.optimizer.lrr': 1}, r"optimizer\.lrr: Adam .*'lr'"),
        ({'train_dataloder.batch_size': 3}, "'train_dataloder'.*'train_dataloader'"),
        ({'model': None}, 'model'),
    ],
)
def test_mistakes_are_found_before_anything_is_built(tiny_run, options, key):
    cfg = tiny_run()
    if None in options.values():
        cfg.model = None
    else:
        cfg.merge_from_dict(options)
    with pytest.raises(ConfigError, match=key):
        check_config(cfg)


@pytest.mark.parametrize(
    'options',
    [
        {'_note': dict(type='anything'), 'steps': 'a variable of the config'},
        {'visualizer.vis_backends': [dict(type='WandbVisBackend', init_kwargs=dict(config=dict(type='sweep')))]},
        {'optim_wrapper.generator.type': 'AmpOptimWrapper', 'optim_wrapper.generator.loss_scale': 512.0},
        {'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=5, by_epoch=False, convert_to_iter_based=True)]},
        {'custom_hooks': [dict(type='EMAHook', priority=49)], 'train_dataloader.prefetch_factor': 4},
        {'model_wrapper_cfg.static_graph': True},
    ],
)
def test_what_is_right_passes(tiny_run, options):
    cfg = tiny_run()
    cfg.merge_from_dict(options)
    cfg.model.generator = dict(type=torch.nn.Identity, norm_cfg=dict(type='BN', requires_grad=True))
    check_config(cfg)


@pytest.mark.parametrize('text', [None, '1 / 0', 'model = dict(', "_base_ = './nowhere_else.py'"])
def test_unreadable_configs(tmp_path, text):
    path = tmp_path / 'nowhere.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match='nowhere'):
        load_config(path)


def test_loaded_configs(tmp_path):
    """MMEngine adds ``_scope_`` to everything inherited by ``_base_ = 'mmsagan::...'``; another package's scope is kept."""
    (tmp_path / 'mine.py').write_text("""
default_scope = 'mmsagan'
optim_wrapper = dict(_scope_='mmsagan', generator=dict(optimizer=dict(type='Adam', _scope_='mmsagan')))
train_dataloader = dict(collate_fn=dict(type='default_collate', _scope_='mmsagan'), persistent_workers=True, num_workers=1)
custom_hooks = [dict(type='EMAHook', _scope_='mmagic'), dict(type='EMAHook', _scope_='mmsagan')]
""")
    cfg = load_config(tmp_path / 'mine.py', {'train_dataloader.num_workers': 0})
    assert cfg.optim_wrapper == dict(generator=dict(optimizer=dict(type='Adam')))
    assert cfg.train_dataloader == dict(collate_fn=dict(type='default_collate'), persistent_workers=False, num_workers=0)
    assert cfg.custom_hooks == [dict(type='EMAHook', _scope_='mmagic'), dict(type='EMAHook')]


def test_the_real_images_are_the_training_set_unless_stated(tiny_run):
    cfg = tiny_run()
    cfg.merge_from_dict({'train_dataloader.dataset.data_root': 'mine'})
    assert complete_evaluation(cfg, 'val') and complete_evaluation(cfg, 'test')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.type == 'CIFAR10' and loader.dataset.data_root == 'mine'
        assert [transform.type for transform in loader.dataset.pipeline] == ['PackInputs'], 'no augmentation'
    cfg.val_dataloader = dict(dataset=dict(type='EmbeddedMNIST'))
    complete_evaluation(cfg, 'val')
    assert cfg.val_dataloader.dataset == dict(type='EmbeddedMNIST')
    # Without a training, the variable of that name is the data set.
    variable = Config(
        dict(dataset=dict(type='CIFAR10'), train_dataloader=None, test_dataloader=dict(dataset=dict(split='test')))
    )
    assert complete_loader(variable, 'test')['dataset'] == dict(type='CIFAR10', split='test')


VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')


@pytest.fixture
def environ(monkeypatch):
    for name in [*VARIABLES, *(name for name in os.environ if name.startswith('SLURM_'))]:
        monkeypatch.setenv(name, '')  # so that it is restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr(distributed, 'is_cuda_available', lambda: True)  # so that no group is joined
    return monkeypatch


def test_the_runner_finds_the_timeout(environ):
    """With GPUs it is MMEngine's runner that joins the process group; its own default would be another one."""
    for name in VARIABLES:
        environ.setenv(name, '1')
    cfg = Config(dict())
    prepare_distributed(cfg, 'pytorch')
    assert cfg.env_cfg.dist_cfg.timeout == 1800
    cfg = Config(dict(env_cfg=dict(cudnn_benchmark=True, dist_cfg=dict(backend='nccl', timeout=2.5))))
    prepare_distributed(cfg, 'pytorch')
    assert cfg.env_cfg == dict(cudnn_benchmark=True, dist_cfg=dict(backend='nccl', timeout=2.5))
    for timeout in (0, '60', True, None, float('nan'), float('inf')):
        with pytest.raises(ConfigError, match=r'env_cfg\.dist_cfg\.timeout'):
            prepare_distributed(Config(dict(env_cfg=dict(dist_cfg=dict(timeout=timeout)))), 'pytorch')


def test_a_process_that_no_launcher_has_started(environ):
    join_processes('none', {})
    for launcher, missing in (('pytorch', 'RANK, WORLD_SIZE'), ('slurm', 'SLURM_PROCID'), ('mpi', 'mpi')):
        with pytest.raises(ConfigError, match=missing):
            join_processes(launcher, {})
