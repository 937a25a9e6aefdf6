"""The converter as a user types it: any format in, sampled and evaluated; mistakes in one message."""

import shlex

import numpy as np
import pytest
import torch
import yaml

from mmsagan.apis import init_model
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.cli.main import COMMANDS

pytestmark = pytest.mark.slow


@pytest.fixture
def convert(run_here):
    """Converts: convert(argument, ...) -> output."""

    def run(*arguments) -> str:
        code, output, errors = run_here('model_converters/convert.py', *arguments)
        assert code == 0, errors
        return output

    return run


@pytest.mark.parametrize('name', ['mmagic_32_woReLUinplace', 'studiogan_legacy_32'])
def test_there_and_back(fixture_of, name, tmp_path, convert):
    """StudioGAN's discriminator is found beside its generator."""
    reference = fixture_of(name)
    out = tmp_path / 'out.pth'
    output = convert(reference.path, '--out', out)
    assert 'base_channels=32' in output and 'attention after block 2' in output and f'written to {out}' in output
    assert ('channel order bgr' in output) == reference.is_bgr
    reference.check(init_model(None, out))
    output = convert(out, '--to', 'studiogan', '--out', tmp_path / 'studio')
    assert ('logits will differ' in output) == (reference.folder.name == 'mmagic_32_woReLUinplace')
    settings = yaml.safe_load(output.partition('config needs:\n')[2])
    # What the fixtures were made with.
    assert settings['MODEL']['g_conv_dim'] == settings['MODEL']['d_conv_dim'] == 8
    assert settings['DATA'] == dict(img_size=32, num_classes=10)
    (generator,) = (tmp_path / 'studio').glob('model=G-best-weights-step=*.pth')
    assert load_checkpoint_file(generator)['state_dict']['blocks.0.0.bn1.gain.weight_orig'].shape == (32, 10)
    convert(generator, '--out', tmp_path / 'back.safetensors')
    first, back = (load_checkpoint_file(path)['state_dict'] for path in (out, tmp_path / 'back.safetensors'))
    assert set(first) == set(back) and all(torch.equal(first[key], back[key]) for key in first if key != 'iteration')


def test_the_printed_command_samples_the_result(fixture_of, tmp_path, convert, run_here):
    output = convert(fixture_of('studiogan_current_32').path, '--out', tmp_path / 'out.pth')
    program, command, *arguments = shlex.split(output.splitlines()[-1].partition('sample it: ')[2])
    assert program == 'mmsagan'
    arguments[arguments.index('samples.png')] = str(tmp_path / 'samples.png')
    code, _, errors = run_here(COMMANDS[command][0], *arguments, '--num-per-class', 2)
    assert code == 0, errors
    assert (tmp_path / 'samples.png').is_file()


@pytest.mark.parametrize(
    'options, message',
    [
        (['--to', 'studiogan', '--channel-order', 'rgb'], '--channel-order'),
        (['--which', 'current'], '--which'),
        (['--dist-step', 0], '--dist-step'),
    ],
)
def test_options_that_do_not_go_together(tmp_path, run_here, options, message):
    code, _, errors = run_here('model_converters/convert.py', tmp_path / 'in.pth', '--out', tmp_path / 'out', *options)
    assert code == 2 and message in errors.splitlines()[-1]


@pytest.mark.parametrize('tool, options', [('convert', ['--out', 'out.pth']), ('publish_model', ['out.pth'])])
def test_mistakes_are_one_message_and_leave_nothing(tmp_path, tool, options, run_here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save('in.npy', np.zeros(3))
    (tmp_path / 'in.npy').rename('in.pth')
    code, _, errors = run_here(f'model_converters/{tool}.py', 'in.pth', *options)
    assert code == 2 and errors.startswith('error: ') and 'in.pth' in errors and len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']
