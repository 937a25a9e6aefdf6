"""What is measured in which order, the settings of the process, and what is refused before anything is measured."""

import pytest
import torch

from mmsagan.analysis.benchmarks import suite
from mmsagan.analysis.benchmarks.suite import BenchmarkOptions, benchmark_device, heading, process_settings, run_benchmarks
from mmsagan.analysis.hardware import MatmulPeak
from mmsagan.analysis.workloads import Workload
from mmsagan.errors import ConfigError


@pytest.fixture
def configs(tmp_path, gan_config):
    paths = [tmp_path / 'first.py', tmp_path / 'second.py']
    for path in paths:
        path.write_text(f'model = {gan_config()!r}\n')
    return paths


@pytest.fixture
def made(monkeypatch):
    """The workloads' makers replaced by ones that note what they are asked for."""
    asked, called = [], []

    def stand_in(what):
        def make(*arguments):
            if what == 'data':
                name, precision = 'data', 'fp32'
            else:
                name, precision = arguments[1], arguments[2] if what in ('step', 'sample') else 'fp32'
            asked.append((what, name, precision))
            return Workload(what, name, precision, lambda: called.append(what), 10, min_rounds=1 if what == 'eval' else 5)

        return make

    names = dict(step='step_workload', sample='sample_workload', eval='evaluation_workload', data='data_workload')
    for what, name in names.items():
        monkeypatch.setattr(suite, name, stand_in(what))
    monkeypatch.setattr(suite, 'matmul_peak', lambda device, precision: MatmulPeak('cpu', precision, False, 64, 1e9))
    return asked, called


def test_order_and_rounds(configs, made):
    asked, called = made
    lines, kept = [], []
    options = BenchmarkOptions(
        what=['data', 'step', 'eval', 'step'], configs=configs, precisions=['bf16', 'fp32'], device='cpu', rounds=6
    )
    results = run_benchmarks(options, lines.append, lambda so_far: kept.append(len(so_far)))
    expected = [('data', 'data', 'fp32')]
    expected += [('step', name, precision) for name in ('first', 'second') for precision in ('bf16', 'fp32')]
    expected += [('eval', 'first', 'fp32'), ('eval', 'second', 'fp32')]
    assert asked == expected == [(result.what, result.config, result.precision) for result in results]
    assert kept == list(range(1, 8))
    assert all(len(result.fast.seconds) == 6 for result in results)
    assert called.count('eval') == 2 * 6, 'no warm-up'
    assert [result.peak.precision if result.peak else None for result in results] == [
        None,
        *['bf16', 'fp32'] * 2,
        *[None] * 2,
    ]
    assert [result.peak_memory_mb is None for result in results if result.what in ('data', 'eval')] == [True] * 3
    assert any(line.startswith('matmul peak, bf16: 1 GFLOP/s') and 'fp32: 1 GFLOP/s' in line for line in lines)


def test_eval_is_done_once_and_the_others_five_times_by_default(configs, made):
    results = run_benchmarks(BenchmarkOptions(what=['eval', 'data'], configs=configs[:1], device='cpu'), lambda line: None)
    assert [len(result.fast.seconds) for result in results] == [1, 5]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(what=['step', 'training']), "what must be of step, sample, attention, eval, data, got 'training'"),
        (dict(what=[]), "got 'nothing'"),
        (dict(precisions=['fp16']), "precision must be of fp32, bf16, got 'fp16'"),
        (dict(against='theirs'), "against must be of reference, none, got 'theirs'"),
        (dict(reference_allocator='jemalloc'), 'must be of default, kept'),
        (dict(inception_style='stylegan'), 'must be of digits, fashion, pytorch'),
        (dict(what=['eval', 'step'], rounds=4), 'at least 5 rounds, got 4'),
        (dict(what=['step', 'eval'], num_samples=64), '--num-samples 64 is too few'),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        BenchmarkOptions(**options)


def test_all_configs_are_read_before_anything_is_measured(tmp_path, configs, made):
    empty = tmp_path / 'empty.py'
    empty.write_text('train_dataloader = dict(batch_size=4)\n')
    for wrong, message in ((empty, 'empty.py has no model'), (tmp_path / 'gone.py', 'gone.py')):
        with pytest.raises(ConfigError, match=message):
            run_benchmarks(BenchmarkOptions(configs=[configs[0], wrong], device='cpu'), lambda line: None)
    assert made[0] == []
    run_benchmarks(BenchmarkOptions(what=['data'], configs=[empty], device='cpu'), lambda line: None)


def test_devices(monkeypatch):
    assert benchmark_device('cpu') == torch.device('cpu')
    with pytest.raises(ConfigError, match='--device mps: measured can be cpu and cuda'):
        benchmark_device('mps')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert benchmark_device(None) == torch.device('cpu')
    with pytest.raises(ConfigError, match='--device cuda:1: PyTorch .* finds no GPU here; .* measure with --device cpu'):
        benchmark_device('cuda:1')


def test_settings_hold_within_and_are_taken_back():
    def settings():
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
        return (torch.get_num_threads(), *flags)

    before = settings()
    with pytest.raises(ZeroDivisionError), process_settings(torch.device('cuda'), before[0] + 1):
        assert settings() == (before[0] + 1, True, True, True)
        1 / 0  # noqa: B018
    assert settings() == before
    with process_settings(torch.device('cpu')):
        assert settings() == before


def test_the_heading(monkeypatch):
    options = BenchmarkOptions(what=['step', 'data'], reference_allocator='kept')
    lines = heading(options, torch.device('cpu'))
    assert f'PyTorch {torch.__version__}' in lines[0] and 'used' in lines[0]
    assert lines[1].startswith('step: ') and '; reference: plain layers' in lines[1]
    assert lines[2].startswith('data: ') and lines[3].endswith('fast: kept by the process; reference: kept')
    alone = heading(BenchmarkOptions(what=['step', 'data'], against='none'), torch.device('cpu'))
    assert len(alone) == 3 and not any('reference' in line for line in alone)
    monkeypatch.setattr(suite, 'describe_device', lambda device: 'a GPU')
    on_gpu = heading(BenchmarkOptions(what=['eval']), torch.device('cuda'))
    assert on_gpu[0].endswith(f', a GPU, {torch.get_num_threads()} CPU threads') and on_gpu[1].startswith('TF32 in matrix')
    assert len(on_gpu) == 3
