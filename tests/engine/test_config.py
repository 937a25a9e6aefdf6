import pytest
import torch

from mmsagan.engine.config import accepted_arguments, check_config, load_config
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
        ({'model': None}, "has no 'model'"),
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
