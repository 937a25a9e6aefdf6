"""One process of several fails: torchrun ends the others, and its message is there."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import ROOT, free_port
from test_distributed import CONFIG, environment, train_options

pytestmark = pytest.mark.slow

# A process waits for another one for 1800 s; torchrun kills those that have not ended 30 s after one has failed.
PROMPTLY = 60
TOOL = Path(__file__).parent / 'failing.py'


@pytest.fixture
def start(tmp_path):
    """Starts a command and gives its output; within a minute after the failure, nothing of it may be left."""

    def run(*command) -> str:
        env = environment()
        env['PYTHONPATH'] += f':{TOOL.parent}:{tmp_path}'
        result = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True, timeout=240)
        said = result.stdout + result.stderr
        assert result.returncode == 1, said
        limit = float(re.search(r'failing at ([0-9.]+)', said)[1]) + PROMPTLY
        while left := [path for path in Path('/proc').glob('[0-9]*/environ') if str(tmp_path) in environment_of(path)]:
            assert time.time() < limit, left
            time.sleep(0.1)
        assert time.time() < limit
        return said

    return run


def environment_of(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors='replace')
    except OSError:  # has ended, or is another user's
        return ''


def test_a_bug_while_another_process_waits_in_a_collective(start, tmp_path, cifar_root):
    """Of a training with data loader workers."""
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = {str(CONFIG)!r}\ncustom_imports = dict(imports=['failing'])\n"
        "custom_hooks = [dict(type='FailingHook', how='raise', rank=1)]\n"
    )
    options = [*train_options(tmp_path / 'run', cifar_root), 'train_dataloader.num_workers=1']
    said = start('bash', ROOT / 'tools' / 'dist_train.sh', config, 2, *options)
    assert "raise RuntimeError('a bug')" in said.partition('Root Cause')[0]
    assert re.search(r'rank +: 1 (.|\n)*RuntimeError: a bug', said.partition('Root Cause')[2]), "torchrun's report"
    assert 'gloo' not in said, 'no traceback of the other process'


@pytest.mark.parametrize('how', ['user error', 'kill'])
def test_an_end_while_another_process_is_far_from_any_collective(start, how):
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={free_port()}']
    said, _, report = start(*torchrun, TOOL, 0, how).partition('Root Cause')
    assert re.search(r'rank +: 0 ', report)
    if how == 'kill':
        assert 'Signal 9 (SIGKILL)' in report
    else:
        assert said.count('error: no data\n') == 1 and 'DataError' not in said, 'one message and no traceback'
        assert re.search(r'exitcode +: 2 ', report)
