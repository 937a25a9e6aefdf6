import copy
import importlib.util

import pytest

from mmsagan.engine import visualizer
from mmsagan.engine.visualizer import SampleVisualizer

BACKENDS = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]


@pytest.mark.parametrize('installed', [True, False])
def test_tensorboard_is_used_when_installed(tmp_path, monkeypatch, installed):
    if installed and importlib.util.find_spec('tensorboard') is None:
        pytest.skip('tensorboard is not installed')
    if not installed:
        monkeypatch.setitem(visualizer._NEEDED_MODULE, 'TensorboardVisBackend', 'a_module_that_is_not_there')
    instance = SampleVisualizer.get_instance(
        f'visualizer-{installed}', vis_backends=copy.deepcopy(BACKENDS), save_dir=str(tmp_path)
    )
    instance.add_scalar('loss', 1.0, step=1)
    instance.close()
    assert list(tmp_path.rglob('scalars.json'))
    assert bool(list(tmp_path.rglob('events.*'))) == installed
