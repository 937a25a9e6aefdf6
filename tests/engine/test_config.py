import pytest
import torch

from mmsagan.engine.config import load_config
from mmsagan.engine.config_check import accepted_arguments, check_config
from mmsagan.errors import ConfigError


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'model.generator.type': 'SAGANGenerater'},
            r"model\.generator\.type='SAGANGenerater' is not registered; did you mean "
            "'SAGANGenerator'",
        ),
        (
            {'model.generator.base_chanels': 8},
            r'model\.generator\.base_chanels: SAGANGenerator has no such argument; did you mean '
            "'base_channels'",
        ),
        ({'model.discriminator.attention_cfg.type': 'Attention9'}, r"model\.discriminator\.attention_cfg\.type='Attention9'"),
        ({'model.ema': 1}, r'model\.ema: ConditionalGAN has no such argument'),
        (
            {'train_dataloader.dataset.pipeline': [dict(type='PackInput')]},
            r'train_dataloader\.dataset\.pipeline\[0\]\.type='
            "'PackInput' is not registered; did you mean 'PackInputs'",
        ),
        (
            {'train_dataloader.dataset.data_rot': 'x'},
            r"dataset\.data_rot: CIFAR10 has no such argument; did you mean 'data_root'",
        ),
        ({'train_dataloader.batchsize': 3}, r"train_dataloader\.batchsize: DataLoader .*did you mean 'batch_size'"),
        ({'train_cfg.maxiters': 3}, r"train_cfg\.maxiters: IterBasedTrainLoop .*did you mean 'max_iters'"),
        ({'optim_wrapper.generator.optimiser': 1}, r"optim_wrapper\.generator\.optimiser.*did you mean 'optimizer'"),
        ({'optim_wrapper.generator.optimizer.lrr': 1}, r"optimizer\.lrr: Adam has no such argument; did you mean 'lr'"),
        ({'default_hooks.checkpoint.intervall': 1}, r"did you mean 'interval'"),
        ({'train_dataloder.batch_size': 3}, "unknown key 'train_dataloder'; did you mean 'train_dataloader'"),
        ({'model': None}, r'has no model=dict'),
        ({'optim_wrapper.type': 'Foo'}, r"optim_wrapper\.type='Foo' is not registered"),
        ({'optim_wrapper.constructor': 'Foo'}, r"optim_wrapper\.constructor='Foo' is not registered"),
        ({'optim_wrapper.generator.type': 'Foo'}, r"optim_wrapper\.generator\.type='Foo' is not registered"),
        ({'model.ema_config.momentun': 0.9}, r"ema_config\.momentun: GeneratorEMA .*did you mean 'momentum'"),
        ({'randomness.sed': 1}, r"randomness\.sed: set_randomness .*did you mean 'seed'"),
        ({'train_dataloader.batch_size': 0}, 'must be at least 1'),
    ],
)
def test_mistakes_are_found_before_anything_is_built(tiny_run, options, message):
    cfg = tiny_run()
    if None in options.values():
        cfg.model = None
    else:
        cfg.merge_from_dict(options)
    with pytest.raises(ConfigError, match=message):
        check_config(cfg)


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'nowhere.py'),
        ('1 / 0', 'ZeroDivisionError'),
        ('model = dict(', 'SyntaxError'),
        ("_base_ = './gone.py'", 'gone.py'),
    ],
)
def test_unreadable_configs(tmp_path, text, message):
    path = tmp_path / 'nowhere.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_options_are_applied(tiny_run):
    assert tiny_run(max_iters=7).train_cfg.max_iters == 7


def test_the_own_scope_of_inherited_parts_is_forgotten(tmp_path):
    """As MMEngine adds it to what is inherited by ``_base_ = 'mmsagan::...'``; another package's says where a type is from."""
    (tmp_path / 'mine.py').write_text("""
default_scope = 'mmsagan'
optim_wrapper = dict(_scope_='mmsagan', generator=dict(optimizer=dict(type='Adam', _scope_='mmsagan')))
train_dataloader = dict(collate_fn=dict(type='default_collate', _scope_='mmsagan'))
custom_hooks = [dict(type='EMAHook', _scope_='mmagic'), dict(type='EMAHook', _scope_='mmsagan')]
""")
    cfg = load_config(tmp_path / 'mine.py')
    assert cfg.optim_wrapper == dict(generator=dict(optimizer=dict(type='Adam')))
    assert cfg.train_dataloader.collate_fn == dict(type='default_collate')
    assert cfg.custom_hooks == [dict(type='EMAHook', _scope_='mmagic'), dict(type='EMAHook')]


def test_arguments_handed_on_count():
    class Base:
        def __init__(self, one, two=2):
            pass

    class Child(Base):
        def __init__(self, three, **kwargs):
            pass

    class Open:
        def __init__(self, **kwargs):
            pass

    class Empty:
        pass

    assert accepted_arguments(Child) == ({'one', 'two', 'three'}, False)
    assert accepted_arguments(Open) == (set(), True)
    assert accepted_arguments(Empty) == (set(), False)
    assert 'lr' in accepted_arguments(torch.optim.Adam)[0]


@pytest.mark.parametrize(
    'options',
    [
        {'note': dict(type='anything')},
        {'models': 'a variable of the config'},
        {'work_dirs': 'another one'},
        {'visualizer.vis_backends': [dict(type='WandbVisBackend', init_kwargs=dict(config=dict(type='sweep')))]},
        {'model.generator.norm_cfg': dict(type='BN', requires_grad=True)},
        {'optim_wrapper.generator.type': 'AmpOptimWrapper', 'optim_wrapper.generator.loss_scale': 512.0},
        {'param_scheduler': [dict(type='LinearLR', start_factor=0.1, end=5, by_epoch=False, convert_to_iter_based=True)]},
        {'custom_hooks': [dict(type='EMAHook', priority=49)]},
        {'train_dataloader.prefetch_factor': 4},
        {'model_wrapper_cfg.static_graph': True},
    ],
)
def test_what_is_right_passes(tiny_run, options):
    cfg = tiny_run()
    if 'model.generator.norm_cfg' in options:
        cfg.model.generator = dict(type=torch.nn.Identity, norm_cfg=options['model.generator.norm_cfg'])
    else:
        cfg.merge_from_dict(options)
    check_config(cfg)


def test_no_workers_need_no_persistence(tiny_run):
    cfg = tiny_run(**{'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': True})
    assert cfg.train_dataloader.persistent_workers is False
