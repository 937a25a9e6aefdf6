import os
import shutil

import pytest
import torch

from mmsagan.apis import init_model
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.web.checkpoints import Checkpoints, resolve_checkpoint


def weights_of(model):
    return torch.cat([parameter.flatten() for parameter in model.generator.parameters()])


def test_a_work_dir_stands_for_its_latest_checkpoint(experiment):
    for name in (experiment.folder, experiment.folder / 'last_checkpoint', experiment.folder / 'iter_20.pth'):
        assert resolve_checkpoint(experiment.config, str(name)) == experiment.checkpoint


def test_names_of_the_zoo_and_urls():
    url = resolve_checkpoint('sagan_32_woReLUinplace_cifar10_b64x1', 'zoo')
    assert url.startswith('https://') and resolve_checkpoint('whatever', url) == url
    assert resolve_checkpoint('whatever', 'gone.pth') == 'gone.pth', 'which loading it will report'


@pytest.mark.parametrize('name', ['.', 'last_checkpoint'])
def test_a_work_dir_without_checkpoints(tmp_path, name):
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        resolve_checkpoint('whatever', str(tmp_path / name))


def test_the_files_beside_the_checkpoint_are_offered_and_loaded_when_wanted(tmp_path, experiment):
    for path in experiment.folder.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / 'notes.pth').touch()
    checkpoints = Checkpoints(experiment.config, str(tmp_path))
    assert checkpoints.names() == ['iter_20.pth', 'iter_10.pth'] and checkpoints.first == 'iter_20.pth'
    for name in checkpoints.names():
        assert torch.equal(weights_of(checkpoints.model(name)), weights_of(init_model(experiment.config, tmp_path / name)))
    assert checkpoints.model('iter_10.pth') is checkpoints.model('iter_10.pth'), 'it is kept'
    shutil.copy(tmp_path / 'iter_20.pth', tmp_path / 'best_FID_iter_20.pth')
    assert checkpoints.names() == ['iter_20.pth', 'iter_10.pth', 'best_FID_iter_20.pth'], 'written since'
    older = checkpoints.model('iter_10.pth')
    shutil.copy(tmp_path / 'iter_20.pth', tmp_path / 'iter_10.pth')
    os.utime(tmp_path / 'iter_10.pth', ns=(1, 1))
    assert not torch.equal(weights_of(checkpoints.model('iter_10.pth')), weights_of(older)), 'written anew'
    (tmp_path / 'iter_10.pth').unlink()
    with pytest.raises(ConfigError, match='iter_10.pth'):
        checkpoints.model('iter_10.pth')


@pytest.mark.parametrize('name', ['../small/iter_10.pth', '/etc/passwd', 'notes.pth', '', 'last_checkpoint'])
def test_a_name_is_no_path(experiment, name):
    checkpoints = Checkpoints(experiment.config, experiment.checkpoint)
    with pytest.raises(ConfigError, match='no checkpoint'):
        checkpoints.model(name)
    with pytest.raises(ConfigError, match='no checkpoint'):
        checkpoints.model(str(experiment.folder / 'iter_10.pth'))


def test_others_may_have_their_own_config(experiment, plain_experiment):
    other = str(plain_experiment.folder / 'iter_20.pth')
    checkpoints = Checkpoints(experiment.config, experiment.checkpoint, others=[other], others_config=plain_experiment.config)
    name = f'{plain_experiment.folder.name}/iter_20.pth'
    assert checkpoints.names() == ['iter_20.pth', name, 'iter_10.pth']
    assert checkpoints.model(name).num_classes == 0 and checkpoints.model().num_classes == 10
    with pytest.raises(CheckpointError, match='gone.pth'):
        Checkpoints(experiment.config, experiment.checkpoint, others=['gone.pth'])


def test_not_all_models_are_kept_in_memory(tmp_path, experiment):
    for number in range(1, 7):
        shutil.copy(experiment.folder / 'iter_10.pth', tmp_path / f'iter_{number}.pth')
    checkpoints = Checkpoints(experiment.config, str(tmp_path))
    models = {name: checkpoints.model(name) for name in checkpoints.names()}
    kept = [name for name in reversed(models) if checkpoints.model(name) is models[name]]
    assert kept[:3] == ['iter_1.pth', 'iter_2.pth', 'iter_3.pth'] and 'iter_5.pth' not in kept
    assert checkpoints.model('iter_6.pth') is models['iter_6.pth'], 'the first one always is'
