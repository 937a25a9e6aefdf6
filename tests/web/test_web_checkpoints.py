import os
import shutil

import pytest
import torch

from mmsagan.apis import init_model
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.web.checkpoints import Checkpoints, resolve_checkpoint


def weights_of(model):
    return torch.cat([parameter.flatten() for parameter in model.generator.parameters()])


def test_a_work_dir_stands_for_its_latest_checkpoint(experiment, tmp_path):
    for name in (experiment.folder, experiment.folder / 'last_checkpoint', experiment.folder / 'iter_20.pth'):
        assert resolve_checkpoint(experiment.config, str(name)) == experiment.checkpoint
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        resolve_checkpoint('whatever', str(tmp_path))


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
    for name in ('iter_10.pth', '../small/iter_10.pth', '', str(experiment.folder / 'iter_10.pth')):
        with pytest.raises(ConfigError, match='no checkpoint'):
            checkpoints.model(name)


def test_others_may_have_their_own_config(experiment, plain_experiment):
    other = str(plain_experiment.folder / 'iter_20.pth')
    checkpoints = Checkpoints(experiment.config, experiment.checkpoint, others=[other], others_config=plain_experiment.config)
    name = f'{plain_experiment.folder.name}/iter_20.pth'
    assert checkpoints.names() == ['iter_20.pth', name, 'iter_10.pth']
    assert checkpoints.model(name).num_classes == 0 and checkpoints.model().num_classes == 10
    with pytest.raises(CheckpointError, match='gone.pth'):
        Checkpoints(experiment.config, experiment.checkpoint, others=['gone.pth'])
