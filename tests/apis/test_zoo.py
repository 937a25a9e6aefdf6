from pathlib import Path

import pytest

from mmsagan.apis.zoo import list_models, resolve_config, resolve_model
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError
from mmsagan.utils.files import shipped_root

ROOT = Path(__file__).parent.parent.parent
NAME = 'sagan_32_woReLUinplace_cifar10_b64x1'
BEST_FID, BEST_IS = 'fid-iter480000_20210730_125449-d50568a4.pth', 'is-iter400000_20210730_125743-4008a9ca.pth'


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_model_resolves_by_its_name(elsewhere):
    models = list_models()
    assert len(models) == len({model.name for model in models}) == 12
    for model in models:
        assert resolve_model(model.name) == model and resolve_config(model.name) == model.config
    for config in {model.config for model in models}:
        assert load_config(config).model.type == 'SAGAN'
        named = [model for model in models if model.config == config]
        best = [model for model in named if model.name.endswith('best-FID')]
        assert [resolve_model(config)] == (best or named)


@pytest.mark.parametrize('name', [NAME, f'{NAME}.py', f'sagan/{NAME}.py', f'configs/sagan/{NAME}', f'{NAME}_best-FID'])
def test_names_of_a_config(elsewhere, name):
    assert resolve_config(name) == shipped_root() / 'configs' / 'sagan' / f'{NAME}.py'
    assert resolve_model(name).weights.endswith(BEST_FID) and resolve_model(Path(name)).weights.endswith(BEST_FID)
    assert resolve_config(f'{NAME}_best-IS').stem == NAME and resolve_model(f'{NAME}_best-IS').weights.endswith(BEST_IS)


def test_a_file_takes_precedence(elsewhere):
    (elsewhere / f'{NAME}.py').touch()
    assert resolve_config(f'{NAME}.py') == Path(f'{NAME}.py')
    assert resolve_config(NAME).parent.name == 'sagan', 'without .py it is not a file'


@pytest.mark.parametrize(
    'resolve, name, named',
    [
        (resolve_model, 'sagan_32_mnist_b32x1', NAME),  # a config without weights
        (resolve_config, 'sagan_32_mnst_b32x1', 'did you mean sagan_32_mnist_b32x1'),
        (resolve_model, 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64.py', f'did you mean {NAME}'),
        (resolve_model, '../x', NAME),
        (resolve_config, '', NAME),
    ],
)
def test_names_of_nothing(resolve, name, named):
    with pytest.raises(ConfigError, match=f'{name}.*{named}'):
        resolve(name)
