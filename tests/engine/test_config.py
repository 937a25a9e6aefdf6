"""Configs: loading, completing, checking, comparing; and the environment that launchers set."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict

from mmsagan.cli.tool import add_cfg_options, tool_parser
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
        {'model_wrapper_cfg.static_graph': True, 'train_cfg.dynamic_intervals': [(0, 5)]},
    ],
)
def test_what_is_right_passes(tiny_run, options):
    cfg = tiny_run()
    cfg.merge_from_dict(options)
    cfg.model.generator = dict(type=torch.nn.Identity, norm_cfg=dict(type='BN', requires_grad=True))
    check_config(cfg)


ROOT = Path(__file__).parent.parent.parent
CIFAR = ROOT / 'configs' / 'sagan' / 'sagan_32_woReLUinplace_cifar10_b64x1.py'


def load_with(option: str, path: Path = CIFAR) -> Config:
    """Loads a config with an option as it is typed, and checks it."""
    parser = tool_parser('A tool.')
    add_cfg_options(parser)
    cfg = load_config(path, parser.parse_args(['--cfg-options', option]).cfg_options)
    complete_evaluation(cfg, 'val')
    check_config(cfg)
    return cfg


@pytest.mark.parametrize(
    'option, expected',
    [
        ('train_dataloader.dataset.data_root=/data/my photos, 2024', '/data/my photos, 2024'),
        ('train_dataloader.dataset.data_root=2024_05', '2024_05'),
        ('train_dataloader.dataset.data_root=[2024]', '[2024]'),
        ("train_dataloader.dataset.data_root='007'", '007'),
        ('train_dataloader.dataset.ann_file=007', '007'),  # not set before, and annotated as a string
        ('load_from=my,weights 1.pth', 'my,weights 1.pth'),
        ('load_from=None', None),
        ('dataset.data_prefix=007, 8', '007, 8'),
        ('resume=auto', 'auto'),
        ('train_dataloader.dataset.metainfo.note=2024_05', '2024_05'),
        ('train_dataloader.dataset.metainfo.note=a b/c,d', 'a b/c,d'),
        ('train_dataloader.dataset.metainfo.note=-1e-4', -1e-4),
        ("train_dataloader.dataset.metainfo.classes=[a b, 007,'c,d', 5]", ['a b', '007', 'c,d', 5]),
        ('train_cfg.max_iters=1_000', 1000),
        ('train_cfg.max_iters=1e3', 1000),
        ('optim_wrapper.generator.optimizer.betas=0.5,0.9', [0.5, 0.9]),
        ('optim_wrapper.generator.optimizer.betas=(0.5, 0.9)', (0.5, 0.9)),
        ('default_hooks.checkpoint.save_best=[a,b]', ['a', 'b']),
        ('model.fast=false', False),
        ('model.compile_cfg={}', {}),
        ("model.ema_config={'momentum':0.9}", dict(momentum=0.9)),
        ('model.init_from.checkpoint=model=G-best, 1.pth', 'model=G-best, 1.pth'),
        ("model.init_from.class_embeddings={0: 3, 'b': 'c'}", {0: 3, 'b': 'c'}),
        ("val_evaluator.metrics=[dict(type='FID', fake_nums=5)]", [dict(type='FID', fake_nums=5)]),
    ],
)
def test_options_keep_their_values(option, expected):
    node = load_with(option)
    for part in option.partition('=')[0].split('.'):
        node = node[part]
    assert node == expected and type(node) in (type(expected), ConfigDict)


@pytest.mark.parametrize(
    'option, key',
    [
        ('modle.fast=False', "'modle'.*'model'"),
        ('runner.max_iters=5', "'runner'.*train_cfg"),
        ('dist_step=5', "'dist_step'"),  # a variable, which has been used
        ('train_cfg.val_interval=0', r'train_cfg\.val_interval=0'),
        ("train_cfg.val_interval='10'", r"train_cfg\.val_interval='10'"),
        ("train_dataloader.batch_size='16'", r"train_dataloader\.batch_size='16'"),
        ('train_dataloader.batch_size=0', r'train_dataloader\.batch_size=0'),
        ('val_dataloader.batch_size=0', r'val_dataloader\.batch_size=0'),
        ('train_dataloader.dataset=data/mine', r'train_dataloader\.dataset'),
        ('default_hooks.checkpoint.interval=a', r"default_hooks\.checkpoint\.interval='a'"),
        ('default_hooks.checkpoint.by_epoch=True', r'default_hooks\.checkpoint\.by_epoch'),
        ('default_hooks.checkpoint.max_failures=0', r'default_hooks\.checkpoint\.max_failures=0'),
        ('default_hooks.divergence.max_skipped_in_a_row=0', r'max_skipped_in_a_row=0'),
        ('default_hooks.checkpont.interval=5', r'default_hooks\.checkpont'),
        ("param_scheduler=[dict(type='LinearLR', start_factor=0.1, end=5)]", r'param_scheduler\[0\]\.by_epoch'),
        ('optim_wrapper.generator.optimizer.lr=fast', r'optim_wrapper\.generator\.optimizer\.lr'),
        ('randomness.seed=a', r'randomness\.seed'),
        ('train_cfg=5', 'train_cfg=5'),
        ('custom_hooks=[dict(type=EMAHook)]', 'custom_hooks'),
        ('model.init_form.checkpoint=a.pth', r'model\.init_form.*init_from'),
        ('model.init_from.checkpiont=a.pth', r'model\.init_from\.checkpiont.*checkpoint'),
    ],
)
def test_values_that_would_do_nothing_or_fail_later_are_named(option, key):
    with pytest.raises(ConfigError, match=key):
        load_with(option)


@pytest.mark.parametrize(
    'text, key',
    [
        ('modle = dict(fast=False)', "'modle'.*'model'"),
        ('trian_cfg = dict(max_iters=5)', "'trian_cfg'.*'train_cfg'"),
        ('checkpoint_config = dict(interval=5)', r"'checkpoint_config'.*default_hooks\.checkpoint"),
        ("runner = dict(type='IterBasedRunner')", "'runner'.*train_cfg"),
        ("load_form = 'weights.pth'", "'load_form'.*'load_from'"),
        ('_mine = dict(a=1)\noptim_wrappers = None\nsteps = 5\nextra = dict(fast=False)\nmodel = dict(**extra)', None),
    ],
)
def test_unknown_keys_of_files(tmp_path, text, key):
    (tmp_path / 'mine.py').write_text(f'_base_ = {str(CIFAR)!r}\n{text}\n')
    with pytest.raises(ConfigError, match=key) if key else nullcontext():
        load_with('model.fast=True', tmp_path / 'mine.py')


def test_the_config_of_a_run_can_be_trained_again(tmp_path):
    """MMEngine writes it out with all variables, whose uses have been replaced by their values."""
    (tmp_path / 'config.py').write_text(load_with('train_dataloader.dataset.data_root=elsewhere').pretty_text)
    load_with('model.fast=True', tmp_path / 'config.py')


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
