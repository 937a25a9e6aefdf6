"""The benchmark: what both sides really compute, how they are measured, and the tool as a user types it."""

import argparse
import json
import runpy
from types import SimpleNamespace

import pytest
import torch
from launching import ROOT
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Measurement, TaskSpec, Timer

from mmsagan.engine.config import load_config
from mmsagan.models.layers import run_power_iterations

pytestmark = pytest.mark.slow
aten = torch.ops.aten
bench = SimpleNamespace(**runpy.run_path(str(ROOT / 'tools' / 'benchmark.py'), run_name='benchmark'))
KEYS = ['what', 'config', 'device', 'precision', 'reference_s', 'fast_s', 'ratio', 'images_per_s', 'peak_memory_mb']
KEYS += ['peak_fraction']
TINY = ['model.generator.base_channels=8', 'model.discriminator.base_channels=8']
ADAM = dict(optimizer=dict(type='Adam', lr=2e-4, betas=(0.5, 0.999)))


@pytest.fixture
def config(tmp_path, gan_config):
    path = tmp_path / 'small.py'
    wrapper = dict(constructor='MultiOptimWrapperConstructor', generator=ADAM, discriminator=ADAM)
    path.write_text(f'model = {gan_config()!r}\ntrain_dataloader = dict(batch_size=6)\noptim_wrapper = {wrapper!r}\n')
    return load_config(path)


@pytest.fixture
def args():
    """Makes arguments: args(precision='bf16', ...)."""

    def make(precision: str = 'fp32', **options) -> argparse.Namespace:
        common = dict(device=torch.device('cpu'), against='reference', batch_size=None, num_samples=None)
        return argparse.Namespace(precision=[precision], **{**common, **options})

    return make


class Recorder(TorchDispatchMode):
    """Notes the operations that are done, and of convolutions the precision, the batches and the order in memory."""

    def __init__(self):
        super().__init__()
        self.names, self.dtypes, self.batches, self.contiguous = set(), set(), [], True

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket._qualified_op_name)
        if operation.overloadpacket is aten.convolution:
            features, weight = args[:2]
            self.dtypes |= {features.dtype, weight.dtype}
            self.batches.append(len(features))
            self.contiguous &= features.is_contiguous() and weight.is_contiguous()
        return operation(*args, **(kwargs or {}))


def recorded(action) -> Recorder:
    with Recorder() as recorder:
        action()
    return recorder


# ------------------------------------------------------------------------------------------------------------- both sides


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_step_on_both_sides(config, args, precision):
    ((name, of, images, actions),) = bench.training_steps(args(precision), [config], None)
    assert (name, of, images) == ('small', precision, 6)
    gans = [action.args[0] for action in actions]
    states = [gan.state_dict() for gan in gans]
    assert list(states[0]) == list(states[1]) and all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    before = [parameter.clone() for network in (gans[0].generator, gans[0].discriminator) for parameter in network.parameters()]
    fast, reference = map(recorded, actions)
    after = [parameter for network in (gans[0].generator, gans[0].discriminator) for parameter in network.parameters()]
    assert sum(not torch.equal(old, new) for old, new in zip(before, after)) > len(before) / 2, 'both networks are updated'
    assert reference.dtypes == {torch.float32} and reference.contiguous and max(reference.batches) == 6
    assert not any('fused_adam' in name for name in reference.names) and any('fused_adam' in name for name in fast.names)
    assert (torch.bfloat16 in fast.dtypes) == (precision == 'bf16') and not fast.contiguous
    assert max(fast.batches) == 12, 'D judges real and fake images together'


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_sampling_on_both_sides(config, args, precision):
    cases = bench.sampling(args(precision), [config], None)
    _, _, images, actions = next(cases)
    actions[0]()  # makes the copy without spectral norms
    fast, reference = map(recorded, actions)
    assert reference.dtypes == {torch.float32} and (torch.bfloat16 in fast.dtypes) == (precision == 'bf16')
    # Products of a weight with a vector are what spectral norms are made of.
    assert 'aten::mv' in reference.names and 'aten::mv' not in fast.names
    samples = []
    for action in actions:
        torch.manual_seed(0)
        samples.append(action())
    assert samples[0].shape == (images, 3, 32, 32) and samples[0].std() > 0.01
    torch.testing.assert_close(samples[0].float(), samples[1], rtol=0, atol=1e-4 if precision == 'fp32' else 0.1)


def test_attention_on_both_sides(args):
    _, _, _, actions = next(bench.attention(args(batch_size=2), [], None))
    block = actions[0].args[0].__self__
    run_power_iterations(block.eval())
    gradients = []
    for action in actions:
        block.zero_grad()
        action()
        gradients.append([parameter.grad for parameter in block.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) >= 3
    for pair in zip(*gradients):
        torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-3)


# --------------------------------------------------------------------------------------------------------------- measuring


def test_sides_take_turns(monkeypatch):
    now, calls = [0.0], []

    def action(name, seconds):
        def run():
            calls.append(name)
            now[0] += seconds

        return run

    monkeypatch.setitem(bench.time_in_turns.__globals__, 'clock', lambda: now[0])
    sides, prepare = dict(fast=action('f', 1), reference=action('r', 3)), dict(reference=action('R', 50))
    seconds = bench.time_in_turns(sides, prepare, rounds=3, warmup=1)
    assert ''.join(calls) == 'Rrf' + 'fRrr' + 'Rrrf' + 'fRrr'
    assert seconds == dict(fast=[1] * 4, reference=[3] * 4)


def test_peak_memory_is_what_tensors_take_at_once():
    def two_of_three():
        first = torch.ones(20 * 2**18)
        second = torch.ones(20 * 2**18)
        del first
        return second, torch.ones(20 * 2**18)

    assert bench.peak_memory(two_of_three, torch.device('cpu')) == pytest.approx(40, abs=1)


# -------------------------------------------------------------------------------------------------------------- the tool


@pytest.fixture
def quick_peak(monkeypatch):
    """Matrix products of 1 ms each."""
    spec = TaskSpec('', '', num_threads=1)
    monkeypatch.setattr(Timer, 'blocked_autorange', lambda self, min_run_time: Measurement(1, [1e-3], spec))


@pytest.mark.usefixtures('quick_peak')
def test_the_default_config(run_here, tmp_path):
    out_file = tmp_path / 'new' / 'results.json'
    options = ['--what', 'step,sample', '--rounds', 1, '--batch-size', 2, '--device', 'cpu', '--profile', 1]
    code, out, err = run_here('benchmark.py', *options, '--json', out_file, '--cfg-options', *TINY)
    assert code == 0, err
    rows = json.loads(out_file.read_text())['rows']
    assert [list(row) for row in rows] == [KEYS] * 2 and [row['what'] for row in rows] == ['step', 'sample']
    for row in rows:
        assert row['config'] == 'sagan_32_woReLUinplace_cifar10_b64x1' and (row['device'], row['precision']) == ('cpu', 'fp32')
        assert row['ratio'] == pytest.approx(row['reference_s'] / row['fast_s'])
        assert row['images_per_s'] == pytest.approx(2 / row['fast_s'])
        assert row['peak_memory_mb'] > 0 and row['peak_fraction'] > 0
        assert f'ratio {row["ratio"]:.2f}' in out and f'{row["peak_fraction"]:.1%}' in out
    assert out.count('Self CPU time total') == 2


def test_evaluation_and_data(run_here, config, tmp_path):
    options = ['--what', 'eval,data', '--config', config.filename, '--num-samples', 70, '--batch-size', 32, '--rounds', 1]
    code, out, err = run_here('benchmark.py', *options, '--json', tmp_path / 'results.json')
    assert code == 0, err
    evaluation, data = json.loads((tmp_path / 'results.json').read_text())['rows']
    assert evaluation['images_per_s'] * evaluation['fast_s'] == pytest.approx(70)
    assert data['images_per_s'] * data['fast_s'] == pytest.approx(64), 'whole batches'
    for row in (evaluation, data):
        assert row['ratio'] > 1 and row['peak_memory_mb'] is row['peak_fraction'] is None
    assert len(bench.build_gans(config, argparse.Namespace(device=torch.device('cpu'), against='none'))) == 1


@pytest.mark.usefixtures('quick_peak')
@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--what', 'steps'], '--what'),
        (['--precision', 'fp32,fp16'], 'fp16'),
        (['--config', 'nowhere.py'], 'nowhere'),
        (['--what', 'eval', '--num-samples', '64'], '--num-samples'),
        (['--json', '.'], 'cannot be written'),
        (['--cfg-options', 'model=None'], 'has no model'),
        (['--cfg-options', 'train_dataloader=None'], '--batch-size'),
    ],
)
def test_wrong_input_gives_one_message(run_here, arguments, message):
    code, out, err = run_here('benchmark.py', *arguments)
    assert code == 2 and 'Traceback' not in err and message in err.splitlines()[-1]
