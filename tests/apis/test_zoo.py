import re
import shutil
from pathlib import Path

import pytest

from mmsagan.apis.zoo import list_models, resolve_config, resolve_model, resolve_weights
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError
from mmsagan.utils import files
from mmsagan.utils.files import shipped_root

ROOT = Path(__file__).parent.parent.parent
NAME = 'sagan_32_woReLUinplace_cifar10_b64x1'
BEST_FID, BEST_IS = 'fid-iter480000_20210730_125449-d50568a4.pth', 'is-iter400000_20210730_125743-4008a9ca.pth'


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory without configs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_model_resolves_by_its_name(elsewhere):
    models = list_models()
    assert len(models) == len({model.name for model in models}) == 10
    for model in models:
        assert resolve_model(model.name) == model and resolve_weights(model.name) == model.weights
        assert resolve_config(model.name) == model.config
        assert load_config(model.config).model.type == 'SAGAN'
        assert re.search(r'-[0-9a-f]{8}\.pth$', model.weights), 'the loader checks what is fetched by this sum'
        assert {'IS', 'FID'} <= set(model.metrics) and model.metadata['Training Data'] in ('CIFAR10', 'ImageNet')


def test_a_config_stands_for_its_model_with_the_best_fid():
    for config in {model.config for model in list_models()}:
        models = [model for model in list_models() if model.config == config]
        default = resolve_model(config)
        assert default == models[0] and default.metrics['FID'] == min(model.metrics['FID'] for model in models)


@pytest.mark.parametrize('name', [NAME, f'{NAME}.py', f'sagan/{NAME}.py', f'configs/sagan/{NAME}', f'{NAME}_best-FID'])
def test_names_of_a_config(elsewhere, name):
    assert resolve_config(name) == shipped_root() / 'configs' / 'sagan' / f'{NAME}.py'
    assert resolve_weights(name).endswith(BEST_FID)
    assert resolve_weights(Path(name)).endswith(BEST_FID)


def test_the_other_model_of_a_config(elsewhere):
    assert resolve_config(f'{NAME}_best-IS').stem == NAME and resolve_weights(f'{NAME}_best-IS').endswith(BEST_IS)


def test_a_file_wins(elsewhere):
    (elsewhere / f'{NAME}.py').touch()
    assert resolve_config(f'{NAME}.py') == Path(f'{NAME}.py')
    assert resolve_config(NAME).parent.name == 'sagan', 'without .py it is no file'
    (elsewhere / 'mine.py').touch()
    assert resolve_config(elsewhere / 'mine.py') == elsewhere / 'mine.py'


def test_a_config_without_weights():
    assert resolve_config('sagan_32_mnist_b64x1').is_file()
    with pytest.raises(ConfigError, match='sagan_32_mnist_b64x1 has no published weights') as info:
        resolve_weights('sagan_32_mnist_b64x1')
    assert all(model.config.stem in str(info.value) for model in list_models())


def test_a_misspelt_name_gets_a_suggestion_and_another_one_the_list():
    with pytest.raises(ConfigError, match='did you mean sagan_32_mnist_b64x1') as error:
        resolve_config('sagan_32_mnst_b64x1')
    assert 'there are' not in str(error.value)
    with pytest.raises(ConfigError, match='there are .*sagan_32_mnist_b64x1, .*sngan_proj_32'):
        resolve_config('biggan')


@pytest.mark.parametrize('resolve', [resolve_config, resolve_weights, resolve_model])
@pytest.mark.parametrize('name', ['sagan_32_woReLUinplace_cifar_b64x1', 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64.py'])
def test_a_misspelt_name(resolve, name):
    with pytest.raises(ConfigError, match=f'{name} .*did you mean {NAME}'):
        resolve(name)


@pytest.mark.parametrize('resolve', [resolve_config, resolve_weights])
@pytest.mark.parametrize('name', ['', 'nothing like it', 'base_sagan_32x32', '../x', 'sagan', '/'])
def test_what_names_nothing(resolve, name):
    with pytest.raises(ConfigError, match=NAME):
        resolve(name)


@pytest.mark.parametrize('place', ['.', 'mmsagan/.mim'])
def test_the_files_of_a_checkout_and_of_an_installation(tmp_path, monkeypatch, place):
    root = tmp_path / place
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / 'model-index.yml', root)
    shutil.copytree(ROOT / 'configs', root / 'configs')
    monkeypatch.setattr(files, 'PACKAGE', tmp_path / 'mmsagan')
    assert shipped_root() == root.resolve() and resolve_config(NAME).is_relative_to(root.resolve())


def test_an_incomplete_installation(tmp_path, monkeypatch):
    monkeypatch.setattr(files, 'PACKAGE', tmp_path / 'mmsagan')
    with pytest.raises(ConfigError, match='has no model-index.yml.*install mmsagan again'):
        list_models()
    (tmp_path / 'model-index.yml').write_text('Import: [configs/sagan/metafile.yml]')
    with pytest.raises(ConfigError, match='metafile.yml cannot be read.*install mmsagan again'):
        list_models()
