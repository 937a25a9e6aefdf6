"""The benchmark: what both sides really compute, how they are measured, and the tool as a user types it."""

import argparse
import json
import runpy
import sys

import benchmark_cases as bench
import pytest
import torch
from launching import ROOT
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Measurement, TaskSpec, Timer

from mmsagan.engine.config import load_config

pytestmark = pytest.mark.slow
KEYS = ['what', 'config', 'device', 'precision', 'reference_s', 'fast_s', 'ratio', 'images_per_s', 'peak_memory_mb']
KEYS += ['peak_fraction']
ADAM = dict(optimizer=dict(type='Adam', lr=2e-4, betas=(0.5, 0.999)))


@pytest.fixture
def config(tmp_path, gan_config):
    path = tmp_path / 'small.py'
    wrapper = dict(constructor='MultiOptimWrapperConstructor', generator=ADAM, discriminator=ADAM)
    path.write_text(f'model = {gan_config()!r}\ntrain_dataloader = dict(batch_size=6)\noptim_wrapper = {wrapper!r}\n')
    return load_config(path)


class Recorder(TorchDispatchMode):
    """Notes the operations that are done, and of convolutions the precision, the batches and the order in memory."""

    def __init__(self, action):
        super().__init__()
        self.names, self.dtypes, self.batches, self.contiguous = set(), set(), [], True
        with self:
            action()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket._qualified_op_name)
        if operation.overloadpacket is torch.ops.aten.convolution:
            features, weight = args[:2]
            self.dtypes |= {features.dtype, weight.dtype}
            self.batches.append(len(features))
            self.contiguous &= features.is_contiguous() and weight.is_contiguous()
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('what', ['step', 'sample'])
def test_both_sides(config, what, precision):
    args = argparse.Namespace(
        device=torch.device('cpu'), against='reference', batch_size=None, precision=[precision], num_samples=None
    )
    cases = bench.WORKLOADS[what](args, [config], None)
    name, of, images, actions = next(cases)
    assert (name, of, images) == ('small', precision, 6)
    actions[0]()  # makes the inference copy
    fast, reference = map(Recorder, actions)
    assert reference.dtypes == {torch.float32} and reference.contiguous and max(reference.batches) == 6
    assert (torch.bfloat16 in fast.dtypes) == (precision == 'bf16')
    if what == 'step':
        assert not any('fused_adam' in name for name in reference.names) and any('fused_adam' in name for name in fast.names)
        assert max(fast.batches) == 12 and not fast.contiguous, 'D judges real and fake images together'
        return
    # Products of a weight with a vector are what spectral norms are made of.
    assert 'aten::mv' in reference.names and 'aten::mv' not in fast.names
    samples = []
    for action in actions:
        torch.manual_seed(0)
        samples.append(action())
    assert samples[0].shape == (6, 3, 32, 32) and samples[0].std() > 0.01
    torch.testing.assert_close(samples[0].float(), samples[1], rtol=0, atol=1e-4 if precision == 'fp32' else 0.1)
    args.against = 'none'
    assert len(bench.build_gans(config, args)) == 1


def test_choices_that_are_written_twice(monkeypatch):
    """The parser names them without importing the module that knows them."""
    script = runpy.run_path(str(ROOT / 'tools' / 'benchmark.py'))
    assert [*script['WHAT']] == [*bench.WORKLOADS] and [*script['PRECISIONS']] == [*bench.DTYPES]
    for style in bench.FEATURES:
        monkeypatch.setattr(sys, 'argv', ['benchmark.py', '--inception-style', style])
        assert script['parse_args']().inception_style == style


def test_the_tool(run_here, monkeypatch, tmp_path):
    """Where products of matrices take 1 ms."""
    measurement = Measurement(1, [1e-3], TaskSpec('', '', num_threads=1))
    monkeypatch.setattr(Timer, 'blocked_autorange', lambda self, min_run_time: measurement)
    tiny = ['model.generator.base_channels=8', 'model.discriminator.base_channels=8']
    options = ['--what', 'step,eval,data', '--batch-size', 4, '--num-samples', 68, '--profile', 1, '--cfg-options', *tiny]
    file = tmp_path / 'new' / 'results.json'
    code, out, err = run_here('benchmark.py', '--rounds', 1, '--device', 'cpu', '--json', file, *options)
    assert code == 0, err
    rows = json.loads(file.read_text())['rows']
    for row, what, images in zip(rows, ('step', 'eval', 'data'), (4, 68, 68), strict=True):
        assert list(row) == KEYS and (row['what'], row['device'], row['precision']) == (what, 'cpu', 'fp32')
        assert row['ratio'] == pytest.approx(row['reference_s'] / row['fast_s']) and f'ratio {row["ratio"]:.2f}' in out
        assert row['images_per_s'] == pytest.approx(images / row['fast_s'])
    step, evaluation, data = rows
    assert step['config'] == 'sagan_32_woReLUinplace_cifar10_b64x1' and step['peak_memory_mb'] > 0
    assert f'{step["peak_fraction"]:.1%}' in out and out.count('Self CPU time total') == 1
    assert data['peak_fraction'] is evaluation['peak_memory_mb'] is None


def test_metrics(run_here, tmp_path):
    file = tmp_path / 'results.json'
    options = ['--num-samples', 68, '--num-features', 16, '--rounds', 1, '--against', 'none', '--device', 'cpu', '--json', file]
    code, _, err = run_here('benchmark.py', '--what', 'metrics', *options)
    assert code == 0, err
    rows = json.loads(file.read_text())['rows']
    assert [row['config'] for row in rows] == ['KID', 'PR', 'AuthPct', 'FID', 'FIDInfinity']
    assert all(list(row) == KEYS and row['images_per_s'] == pytest.approx(68 / row['fast_s']) for row in rows)
