"""A training on two processes that is killed, and resumed on as many."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_distributed import CONFIG, ROOT, environment, train_options

sys.path.insert(0, str(ROOT / 'tests' / 'robustness'))
from training_process import assert_same_training  # noqa: E402

KILLED_AT = 4
HOOK = """
import os
import signal

from mmengine.hooks import Hook
from mmsagan.registry import HOOKS


@HOOKS.register_module()
class PowerCut(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == int(os.environ.get('POWER_CUT', -1)):
            os.kill(os.getpid(), signal.SIGKILL)
"""

pytestmark = pytest.mark.slow


def launch(tmp_path: Path, cifar_root, name: str, processes: int, iterations: int, *extra: str, power_cut: int = -1):
    options = train_options(tmp_path / name, cifar_root)
    options[options.index('train_cfg.max_iters=3')] = f'train_cfg.max_iters={iterations}'
    options += ['default_hooks.checkpoint.interval=2']
    command = ['bash', str(ROOT / 'tools' / 'dist_train.sh'), str(tmp_path / 'config.py'), str(processes), *extra, *options]
    env = environment(POWER_CUT=str(power_cut))
    env['PYTHONPATH'] += f'{os.pathsep}{tmp_path}'
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


def test_two_processes(tmp_path, cifar_root):
    (tmp_path / 'power_cut.py').write_text(HOOK)
    (tmp_path / 'config.py').write_text(
        f"_base_ = {str(CONFIG)!r}\ncustom_imports = dict(imports=['power_cut'])\ncustom_hooks = [dict(type='PowerCut')]\n"
    )
    whole = launch(tmp_path, cifar_root, 'whole', 2, 5)
    assert whole.returncode == 0, whole.stderr
    killed = launch(tmp_path, cifar_root, 'killed', 2, 5, power_cut=KILLED_AT)
    assert killed.returncode != 0 and not (tmp_path / 'killed' / 'iter_4.pth').exists()
    resumed = launch(tmp_path, cifar_root, 'killed', 2, 5, '--resume')
    assert resumed.returncode == 0 and 'resumed epoch: 0, iter: 2' in resumed.stdout + resumed.stderr, resumed.stderr
    assert 'not, to the bit' not in resumed.stdout + resumed.stderr
    assert_same_training(tmp_path / 'whole' / 'iter_5.pth', tmp_path / 'killed' / 'iter_5.pth')

    alone = launch(tmp_path, cifar_root, 'killed', 1, 6, '--resume')
    assert alone.returncode == 0, alone.stderr
    said = re.sub(r'\s+', ' ', alone.stdout + alone.stderr)
    assert 'is not, to the bit, the one that was interrupted: it ran on 2 processes, and this one runs on 1' in said
