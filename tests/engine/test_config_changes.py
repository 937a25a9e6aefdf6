import pytest
from mmengine.config import Config

from mmsagan.engine.config import load_config
from mmsagan.engine.config_changes import MISSING, as_code, changes, changes_of_training

BASE = 'model = dict(type="SAGAN", width=8, layers=[dict(type="A"), dict(type="B", n=1)])\ntrain_cfg = dict(max_iters=10)\n'


@pytest.fixture
def config(tmp_path):
    """Writes a config that inherits BASE and one more file, and loads it: config(text, options)."""
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'data.py').write_text('train_dataloader = dict(batch_size=4, num_workers=1)\ndefault_scope = "mmsagan"\n')

    def make(text, options=None, bases="_base_ = ['./base.py', './data.py']\n"):
        (tmp_path / 'leaf.py').write_text(bases + text)
        return load_config(tmp_path / 'leaf.py', options)

    return make


@pytest.mark.parametrize(
    'old, new, expected',
    [
        (dict(a=1), dict(a=1), {}),
        (dict(a=1), dict(a=2), {'a': (1, 2)}),
        (dict(a=1), dict(), {'a': (1, MISSING)}),
        (dict(), dict(a=dict(b=1, c=2)), {'a.b': (MISSING, 1), 'a.c': (MISSING, 2)}),
        (dict(a=None), dict(a=dict(b=1)), {'a': (None, dict(b=1))}),
        (dict(a=[1, 2]), dict(a=[1, 3]), {'a.1': (2, 3)}),
        (dict(a=[1, 2]), dict(a=[1]), {'a': ([1, 2], [1])}),
        (dict(a=[dict(n=1)]), dict(a=[dict(n=1, m=2)]), {'a.0.m': (MISSING, 2)}),
        (dict(a=(1, 2)), dict(a=(1, 3)), {'a': ((1, 2), (1, 3))}),
        (dict(a=1), dict(a=1.0), {}),
        (dict(a=1), dict(a=True), {'a': (1, True)}),
        (dict(a=dict()), dict(), {'a': (dict(), MISSING)}),
        (dict(a=dict(_scope_='x', b=1)), dict(a=dict(b=1)), {}),
    ],
)
def test_changes(old, new, expected):
    assert changes(old, new) == expected


def test_the_file_and_the_command_line(config):
    cfg = config(
        'width = 16\nmodel = dict(width=width, layers=[dict(type="A"), dict(type="B", n=2)])\ntest_cfg = dict(x=1)\n'
        'val_cfg = dict(x=1)\n',
        {'train_cfg.max_iters': 20, 'work_dir': 'elsewhere', 'model.layers.0.n': 5},
    )
    cfg.merge_from_dict({'launcher': 'none', 'resume': True, 'optim_wrapper.type': 'BFloat16OptimWrapper'})
    names, of_file, given = changes_of_training(cfg)
    assert names == ['./base.py', './data.py']
    assert of_file == {'model.width': (8, 16), 'model.layers.1.n': (1, 2), 'val_cfg.x': (MISSING, 1)}
    assert given == {
        'train_cfg.max_iters': (10, 20),
        'model.layers.0.n': (MISSING, 5),
        'optim_wrapper.type': (MISSING, 'BFloat16OptimWrapper'),
    }


def test_a_config_that_inherits_nothing(config):
    assert changes_of_training(config('seed = 1\n', bases='')) == ([], {}, {})


def test_a_config_that_is_no_file(config, tmp_path):
    cfg = config('seed = 1\n')
    (tmp_path / 'leaf.py').unlink()
    assert changes_of_training(cfg) == changes_of_training(Config(dict(a=1))) == ([], {}, {})


def test_a_whole_part_replaced(config):
    cfg = config('model = dict(_delete_=True, type="Mine")\n')
    _, of_file, _ = changes_of_training(cfg)
    assert of_file.pop('model.type') == ('SAGAN', 'Mine')
    assert {key: new for key, (_, new) in of_file.items()} == {'model.width': MISSING, 'model.layers': MISSING}


@pytest.mark.parametrize(
    'value',
    [dict(type='Adam', betas=(0.0, 0.9)), [1, dict(a=[None])], (1,), {'a b': 1, 'c': dict(d='e')}, 'text', 1e-8, True, {}],
)
def test_values_as_code(value):
    assert eval(as_code(value)) == value
