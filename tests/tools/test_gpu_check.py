"""The check of a GPU, on a CPU: what needs no GPU passes, a failure does not end the others, and what fakes can show."""

import json
import os
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from launching import ROOT, run_tool

from mmsagan.models.layers.spectral_norm import run_power_iterations
from mmsagan.registry import MODELS

SCRIPT = ROOT / 'tools' / 'misc' / 'gpu_check.py'
gpu = SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name='gpu_check'))
NEED_CUDA = {name for name, check in gpu.CHECKS.items() if check.needs_cuda}


@pytest.mark.slow
def test_all_checks_on_a_cpu(tmp_path):
    # What is left out is slow, and as at 32x32.
    names = [name for name in gpu.CHECKS if name in NEED_CUDA or not name.endswith(('64x64', '128x128'))]
    command = [sys.executable, str(SCRIPT), '--device', 'cpu', '--minutes', '60', '--out', str(tmp_path), '--only', *names]
    result = subprocess.run(command, env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True)
    report = json.loads((tmp_path / 'gpu_check.json').read_text())
    rows = {row['check']: row for row in report['checks']}
    assert rows.keys() == {*names} and result.returncode == 0, result.stdout + result.stderr
    for name, row in rows.items():
        assert row['result'] == ('skipped' if name in NEED_CUDA else 'passed') and row['figure'], row
        assert 'CUDA' in row['figure'] or name not in NEED_CUDA
    assert report['versions']['torch'] == torch.__version__ and report['device'].startswith('CPU')
    assert rows['equality: checkpoints of the references']['figures'].keys() == {
        path.name for path in (ROOT / 'tests' / 'data' / 'fixtures').iterdir()
    }
    steps = rows['speed: steps, 32x32']['figures']
    assert steps['fast'] == pytest.approx(steps['rows']['reference']['ms'] / steps['rows']['fast']['ms'])
    assert all(step['tflop_per_s'] > 0 and step['memory_mb'] > 0 for step in steps['rows'].values())
    text = (tmp_path / 'gpu_check.md').read_text()
    assert all(f'| {name} | {row["result"]} | ' in text for name, row in rows.items()) and '\n| bfloat16 | ' in text


# As a user's checks would be: the worker process imports this script, too.
BROKEN = f"""
import os, sys, time
sys.path.insert(0, {str(SCRIPT.parent)!r})
import gpu_check

gpu_check.CHECKS.clear()
seen = []

@gpu_check.check('device: first', 1)
def first(setting):
    seen.append(1)
    return dict(number=1.0)

@gpu_check.check('device: wrong', 1)
def wrong(setting):
    return gpu_check.within(2, number=3.0)

@gpu_check.check('device: dies', 1)
def dies(setting):
    os.kill(os.getpid(), 9)

@gpu_check.check('device: hangs', -14)
def hangs(setting):
    time.sleep(600)

@gpu_check.check('device: long', 10**6)
def long(setting):
    raise AssertionError

@gpu_check.check('device: late', 1, True)
def late(setting):
    return dict(processes=len(seen))

@gpu_check.check('device: last', 1)
def last(setting):
    raise gpu_check.Skipped('no reason')

if __name__ == '__main__':
    gpu_check.run_tool(gpu_check.main)
"""


@pytest.mark.slow
def test_failures_do_not_end_the_others(tmp_path):
    (tmp_path / 'broken.py').write_text(BROKEN)
    result = run_tool(tmp_path / 'broken.py', '--device', 'cpu', '--out', tmp_path)
    rows = {row['check'].partition(': ')[2]: row for row in json.loads((tmp_path / 'gpu_check.json').read_text())['checks']}
    assert result.returncode == 1, result.stderr
    found = {name: row['result'] for name, row in rows.items()}
    failed = dict.fromkeys(['wrong', 'dies', 'hangs'], 'failed')
    assert found == {'first': 'passed', **failed, 'long': 'skipped', 'last': 'skipped', 'late': 'passed'}
    assert list(found)[-1] == 'late' and rows['late']['figures'] == {'processes': 0}, 'in another process than the first'
    assert 'number is 3' in rows['wrong']['figure'] and 'within(2' in rows['wrong']['traceback']
    assert '-9' in rows['dies']['figure'] and '30 s' in rows['hangs']['figure'] and rows['last']['figure'] == 'no reason'
    assert '3 failed' in result.stdout and '| device: hangs | failed | ' in (tmp_path / 'gpu_check.md').read_text()


@pytest.mark.parametrize(
    'kernels, duration, share',
    [
        ([(0, 2), (6, 8)], 8, 0.5),
        ([(6, 8), (0, 2)], 16, 0.75),
        ([(0, 4), (1, 2), (3, 6)], 8, 0.25),  # on several streams
        ([(0, 3), (0, 3)], 2, 0),  # slower under the profiler than without
        ([], 5, 1),
    ],
)
def test_idle_share(kernels, duration, share):
    assert gpu.idle_share(iter(kernels), duration) == pytest.approx(share)


def test_versions_of_driver_and_nccl(tmp_path, monkeypatch):
    (tmp_path / 'nvidia-smi').write_text(
        '#!/bin/sh\necho "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8 |"\n'
    )
    (tmp_path / 'nvidia-smi').chmod(0o755)
    setting = gpu.Setting('cpu', tmp_path, tmp_path)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    monkeypatch.setattr(torch.distributed, 'is_nccl_available', lambda: True)
    monkeypatch.setattr('torch.cuda.nccl.version', lambda: (2, 27, 5))
    versions = gpu.CHECKS['device: versions'].run(setting)['versions']
    assert versions['driver'] == '570.86.15' and versions['nccl'] == '2.27.5'


def test_the_stock_reference_computes_what_the_plain_layers_do(gan_config):
    """The norms have converged, since torch's begin with other vectors."""
    gan = MODELS.build(gan_config(fast=False))
    gan.init_weights()
    run_power_iterations(gan, 300)
    state, weights = gan.state_dict(), dict(gan.named_parameters())
    noise, images, label = torch.randn(4, 16), torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    expected = gan.generator(noise, label), gan.discriminator(images, label)
    gpu.use_stock_spectral_norm(gan)
    gan.load_state_dict(state)
    assert gan.state_dict().keys() == state.keys()
    assert all(weights[name] is parameter for name, parameter in gan.named_parameters())
    torch.testing.assert_close((gan.generator(noise, label), gan.discriminator(images, label)), expected, rtol=1e-4, atol=1e-4)
    hooks = [hook for module in gan.modules() for hook in module._forward_pre_hooks.values()]
    assert hooks and all(isinstance(hook, torch.nn.utils.spectral_norm.__globals__['SpectralNorm']) for hook in hooks)
