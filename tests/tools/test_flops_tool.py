"""The tool that counts FLOPs as a user types it, within this process."""

import re
from functools import partial

import pytest

from mmsagan.analysis.flops import layer_flops, training_flops

pytestmark = pytest.mark.slow


@pytest.fixture
def run(run_here):
    """Runs the tool: run(argument, ...) -> exit code, output and errors."""
    return partial(run_here, 'analysis_tools/get_flops.py')


@pytest.fixture(scope='module')
def config(tmp_path_factory, gan_config):
    path = tmp_path_factory.mktemp('flops') / 'config.py'
    path.write_text(f'model = {gan_config(discriminator_steps=5)!r}\ntrain_dataloader = dict(batch_size=4)\n')
    return path


def test_the_tables(run, config, gan_config):
    code, out, err = run(config)
    assert (code, err) == (0, '')
    generator, discriminator, training = out.strip().split('\n\n')
    rows = layer_flops(gan_config())
    for table, name in ((generator, 'generator'), (discriminator, 'discriminator')):
        title, _, total, *layers = table.splitlines()
        assert title == f'{name}, forward in training mode, batch of 1'
        first = rows[name][0]
        shape = 'x'.join(map(str, first.output_shape))
        flops = [f'{value / 1e6:,.3f}' for value in (first.plain, first.fast)]
        assert total.split() == ['all', first.type, f'{first.parameters:,}', *flops, shape]
        assert len(layers) == len([row for row in rows[name] if 1 <= row.depth <= 2])
    title, *lines = training.splitlines()
    assert title.startswith('training, batch of 4 ')
    numbers = {re.split('  +', line.strip())[0]: line.split()[-3:] for line in lines}
    counted = training_flops(gan_config(), 4)
    assert numbers['step: one update of each'][1:] == [f'{counted.step.total / 1e9:.3f}'] * 2, 'fast, as configured'
    assert numbers['iteration of the config, on average'][1] == f'{counted.iteration(5) / 1e9:.3f}'
    assert float(numbers['convolutions 3x3'][1]) < float(numbers['convolutions 3x3'][0]), 'fast and plain'
    assert {'convolutions 3x3', 'convolutions 1x1', 'attention', 'linear', 'spectral norm'} <= set(numbers)


def test_options(run, config):
    options = ['--depth', 0, '--batch-size', 3, '--cfg-options', 'model.fast=False']
    code, out, err = run(config, *options)
    generator, discriminator, training = out.strip().split('\n\n')
    assert len(generator.splitlines()) == len(discriminator.splitlines()) == 3
    assert ' 3x3x32x32' in generator and 'training, batch of 3' in training
    plain, fast, configured = training.splitlines()[-1].split()[-3:]
    assert plain == configured != fast


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['nowhere.py'], 'nowhere.py'),
        (['--cfg-options', 'train_dataloader=None'], 'no train_dataloader.batch_size; give --batch-size'),
        (['--cfg-options', 'model=None'], 'the config has no model'),
        (['--cfg-options', 'model.discriminator=None'], 'has no discriminator=dict(...)'),
        (['--depth', '-1'], 'must be at least 0'),
    ],
)
def test_wrong_input_gives_one_message(run, config, arguments, message):
    code, out, err = run(*([config] if arguments[0].startswith('--') else []), *arguments)
    assert code == 2 and out == ''
    assert message in err.splitlines()[-1]
