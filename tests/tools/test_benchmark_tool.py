"""The benchmark as a user types it, within this process; what it measures is in tests/analysis/test_benchmark_*.py."""

import json
from functools import partial

import pytest

from mmsagan.analysis import hardware

pytestmark = pytest.mark.slow

KEYS = ['what', 'config', 'device', 'precision', 'reference_s', 'fast_s', 'ratio', 'images_per_s', 'peak_memory_mb']
KEYS += ['peak_fraction']
TINY = ['model.generator.base_channels=8', 'model.discriminator.base_channels=8']


@pytest.fixture
def run(monkeypatch, run_here):
    """Runs the tool: run(argument, ...) -> exit code, output and errors."""
    monkeypatch.setattr(hardware, 'SIZES', dict(cpu=(64,)))
    return partial(run_here, 'benchmark.py')


def table_of(out: str) -> list[list[str]]:
    """The cells of the table's rows, which come last."""
    lines = out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith('what '))
    return [line.split() for line in lines[start + 1 :]]


def test_steps_and_samples_of_the_default_config(run, tmp_path):
    out_file = tmp_path / 'new' / 'results.json'
    arguments = ['--what', 'step,sample', '--precision', 'fp32,bf16', '--batch-size', 2, '--threads', 1, '--device', 'cpu']
    code, out, err = run(*arguments, '--json', out_file, '--cfg-options', *TINY)
    assert (code, err) == (0, '')
    rows = json.loads(out_file.read_text())['rows']
    assert [list(row) for row in rows] == [KEYS] * 4
    assert [(row['what'], row['precision']) for row in rows] == [
        ('step', 'fp32'),
        ('step', 'bf16'),
        ('sample', 'fp32'),
        ('sample', 'bf16'),
    ]
    for row, cells in zip(rows, table_of(out), strict=True):
        assert row['config'] == 'sagan_32_woReLUinplace_cifar10_b64x1' and row['device'] == 'cpu'
        assert row['ratio'] == pytest.approx(row['reference_s'] / row['fast_s'])
        assert row['images_per_s'] == pytest.approx(2 / row['fast_s'])
        assert 0 < row['peak_fraction'] and (row['peak_memory_mb'] is None or row['peak_memory_mb'] >= 0)
        assert cells[:4] == [row['what'], row['config'], 'cpu', row['precision']]
        assert cells[5] == cells[8] == '±' and cells[10] == f'{row["ratio"]:.2f}' and float(cells[12]) > 0 and cells[14] == '/'
    assert out.splitlines()[0].count('1 thread used') == 1 and 'kept by the process; reference: default' in out


def test_the_fast_side_alone(run, tmp_path, gan_config):
    config = tmp_path / 'mine.py'
    config.write_text(f'model = {gan_config()!r}\ntrain_dataloader = dict(batch_size=3)\n')
    arguments = ['--what', 'sample', '--config', config, '--against', 'none', '--device', 'cpu', '--profile', 3]
    code, out, err = run(*arguments)
    assert (code, err) == (0, '')
    profile = out[out.index('profile of sample, mine, fp32') :].splitlines()
    assert profile[1].split() == ['operator', 'time', '[s]', 'share', 'calls']
    assert len(profile[2:5]) == 3 and profile[5].startswith('others')
    assert 99 < sum(float(line.split()[-2].rstrip('%')) for line in profile[2:6]) < 101
    ((what, name, device, precision, *cells),) = table_of(out)
    assert (what, name, device, precision) == ('sample', 'mine', 'cpu', 'fp32')
    assert cells[0] == '-' and cells[2] == '±' and cells[4] == '-', 'no reference, so no ratio'
    assert 'reference' not in out.partition('what ')[0]


def test_evaluation_and_data(run, tmp_path):
    pytest.importorskip('scipy')
    arguments = ['--what', 'eval,data', '--batch-size', 16, '--num-samples', 70, '--device', 'cpu', '--cfg-options', *TINY]
    code, out, err = run(*arguments, '--json', tmp_path / 'results.json')
    assert code == 0, err
    evaluation, data = json.loads((tmp_path / 'results.json').read_text())['rows']
    assert (evaluation['what'], evaluation['config']) == ('eval', 'sagan_32_woReLUinplace_cifar10_b64x1')
    assert (data['what'], data['config'], data['precision']) == ('data', 'imagenet_packed_128', 'fp32')
    assert evaluation['images_per_s'] * evaluation['fast_s'] == pytest.approx(70)
    assert data['images_per_s'] * data['fast_s'] == pytest.approx(64), 'whole batches'
    for row in (evaluation, data):
        assert row['ratio'] == pytest.approx(row['reference_s'] / row['fast_s'])
        assert row['peak_memory_mb'] is row['peak_fraction'] is None
    assert table_of(out)[0][5:9:3] == ['±', '±'] and table_of(out)[0][6] == '-', 'a single pass has no spread'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--what', 'steps'], "argument --what: invalid choice 'steps' (choose from step, sample, attention, eval, data)"),
        (['--what', 'step,'], "argument --what: invalid choice ''"),
        (['--precision', 'fp32,fp16'], "argument --precision: invalid choice 'fp16' (choose from fp32, bf16)"),
        (['--against', 'nobody'], 'argument --against: invalid choice'),
        (['--rounds', '4'], 'error: a measurement needs at least 5 rounds, got 4'),
        (['--rounds', '0'], 'must be at least 1, got 0'),
        (['--threads', '0'], 'must be at least 1, got 0'),
        (['--config', 'nowhere.py'], 'nowhere'),
        (['--device', 'tpu'], 'error: --device tpu: measured can be cpu and cuda'),
        (['--what', 'data', '--data-root', 'nowhere', '--device', 'cpu'], '--data-root nowhere is no folder'),
        (['--json', 'TMP'], 'cannot be written: it is a folder'),
        (['--cfg-options', 'model=None'], 'has no model'),
    ],
)
def test_wrong_input_gives_one_message(run, tmp_path, arguments, message):
    code, out, err = run(*[str(tmp_path) if argument == 'TMP' else argument for argument in arguments])
    assert code == 2 and 'Traceback' not in err
    assert message in err.splitlines()[-1]


def test_the_file_is_tried_before_anything_is_measured(run, tmp_path):
    """Else the time would have been for nothing."""
    (tmp_path / 'file').write_text('')
    code, out, err = run('--json', tmp_path / 'file' / 'results.json')
    assert code == 2 and out == '' and 'cannot be written' in err
