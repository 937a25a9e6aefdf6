"""A training on two processes that is interrupted, and resumed on as many."""

import signal
from pathlib import Path

import pytest
from launching import run_tools
from test_distributed import CONFIG, ROOT, train_options
from training_process import assert_same_training

# Kills all processes in an iteration, or asks the second one in an iteration to stop.
HOOK = """
import os
import signal

from mmengine.hooks import Hook
from mmsagan.registry import HOOKS


@HOOKS.register_module()
class PowerCut(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == int(os.environ['KILLED_IN']):
            os.kill(os.getpid(), signal.SIGKILL)
        if runner.iter + 1 == int(os.environ['STOPPED_IN']) and runner.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
"""

pytestmark = pytest.mark.slow


def launch(
    tmp_path: Path, cifar_root, name: str, *extra: str, killed_in: int = -1, stopped_in: int = -1
) -> tuple[list[int], str]:
    options = train_options(tmp_path / name, cifar_root)
    options[options.index('train_cfg.max_iters=3')] = 'train_cfg.max_iters=5'
    options += ['default_hooks.checkpoint.interval=2']
    env = dict(KILLED_IN=str(killed_in), STOPPED_IN=str(stopped_in), PYTHONPATH=str(tmp_path))
    arguments = [ROOT / 'tools' / 'train.py', tmp_path / 'config.py', *extra, '--launcher', 'pytorch', *options]
    ends = run_tools(*arguments, processes=2, **env)
    return [end.returncode for end in ends], ''.join(end.stdout + end.stderr for end in ends)


def test_two_processes(tmp_path, cifar_root):
    """Killed in iteration 4, resumed, told to stop in iteration 3, and resumed."""
    (tmp_path / 'power_cut.py').write_text(HOOK)
    (tmp_path / 'config.py').write_text(
        f"_base_ = {str(CONFIG)!r}\ncustom_imports = dict(imports=['power_cut'])\ncustom_hooks = [dict(type='PowerCut')]\n"
    )
    codes, output = launch(tmp_path, cifar_root, 'whole')
    assert codes == [0, 0], output
    codes, output = launch(tmp_path, cifar_root, 'broken', killed_in=4)
    assert codes == [-signal.SIGKILL] * 2 and not (tmp_path / 'broken' / 'iter_4.pth').exists()
    codes, output = launch(tmp_path, cifar_root, 'broken', '--resume', stopped_in=3)
    assert codes == [75, 75] and 'resumed epoch: 0, iter: 2' in output
    assert 'after iteration 3, saved to' in output and 'not, to the bit' not in output
    codes, output = launch(tmp_path, cifar_root, 'broken', '--resume')
    assert codes == [0, 0] and 'resumed epoch: 0, iter: 3' in output, output
    assert_same_training(tmp_path / 'whole' / 'iter_5.pth', tmp_path / 'broken' / 'iter_5.pth')
