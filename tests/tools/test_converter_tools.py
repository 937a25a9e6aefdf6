"""The converters as a user types them: any format in, sampled and evaluated; mistakes in one message."""

import shlex

import numpy as np
import pytest
import torch
import yaml
from test_train_tool import run

from mmsagan.apis import init_model
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.cli.commands import COMMANDS

pytestmark = pytest.mark.slow

TOOLS = 'tools/model_converters'


def convert(reference, out):
    if reference.is_bgr:
        return run(reference.path, '--out', out, tool=f'{TOOLS}/openmmlab_to_mmsagan.py')
    arguments = ['--generator', reference.path, '--discriminator', reference.discriminator, '--out', out]
    return run(*arguments, tool=f'{TOOLS}/studiogan_to_mmsagan.py')


@pytest.mark.parametrize('name', ['mmagic_32_wReLUinplace', 'studiogan_current_32'])
def test_converted_files_and_the_printed_command(fixture_of, tmp_path, name):
    reference = fixture_of(name)
    out = tmp_path / 'out.pth'
    result = convert(reference, out)
    assert result.returncode == 0, result.stderr
    assert 'base_channels=32' in result.stdout and 'attention after block 2' in result.stdout
    assert ('channel order bgr' in result.stdout) == reference.is_bgr
    reference.check(init_model(None, out))
    # The last line is a command that samples the result.
    program, command, *arguments = shlex.split(result.stdout.splitlines()[-1].partition('sample it: ')[2])
    assert program == 'mmsagan'
    picture = tmp_path / 'samples.png'
    arguments[arguments.index('samples.png')] = str(picture)
    sampled = run(*arguments, '--num-per-class', 2, tool=f'tools/{COMMANDS[command].script}')
    assert sampled.returncode == 0, sampled.stderr
    assert picture.is_file()


@pytest.mark.parametrize('name', ['mmagic_32_woReLUinplace', 'studiogan_legacy_32'])
def test_to_studiogan(fixture_of, tmp_path, name):
    reference = fixture_of(name)
    result = run(reference.path, '--out-dir', tmp_path, tool=f'{TOOLS}/mmsagan_to_studiogan.py')
    assert result.returncode == 0, result.stderr
    settings = yaml.safe_load(result.stdout.partition('config needs:\n')[2])
    # What the fixtures were made with.
    assert settings['MODEL']['g_conv_dim'] == settings['MODEL']['d_conv_dim'] == 8
    assert settings['DATA'] == dict(img_size=32, num_classes=10)
    content = load_checkpoint_file(next(tmp_path.glob('model=G-best-weights-step=100.pth')))
    assert content['state_dict']['blocks.0.0.bn1.gain.weight_orig'].shape == (32, 10)
    assert ('logits will differ' in result.stdout) == (reference.folder.name == 'mmagic_32_woReLUinplace')


def test_one_command_for_every_format(reference, tmp_path, run_here):
    """Also of StudioGAN one file is enough: the discriminator is found beside it."""
    out = tmp_path / 'out.pth'
    code, output, errors = run_here('model_converters/convert.py', reference.path, '--out', out)
    assert code == 0, errors
    assert 'base_channels=32' in output and f'written to {out}' in output
    reference.check(init_model(None, out))
    code, output, errors = run_here('model_converters/convert.py', out, '--to', 'studiogan', '--out', tmp_path / 'studio')
    assert code == 0, errors
    assert yaml.safe_load(output.partition('config needs:\n')[2])['MODEL']['g_conv_dim'] == 8
    (generator,) = (tmp_path / 'studio').glob('model=G-*.pth')
    code, _, errors = run_here('model_converters/convert.py', generator, '--out', tmp_path / 'back.safetensors')
    assert code == 0, errors
    first, back = (load_checkpoint_file(path)['state_dict'] for path in (out, tmp_path / 'back.safetensors'))
    assert set(first) == set(back) and all(torch.equal(first[key], back[key]) for key in first if key != 'iteration')


@pytest.mark.parametrize(
    'options, message',
    [
        (['--to', 'studiogan', '--channel-order', 'rgb'], '--channel-order does not go with --to studiogan'),
        (['--which', 'current'], '--which does not go with --to mmsagan'),
        (['--dist-step', 0], 'must be at least 1'),
    ],
)
def test_options_that_do_not_go_together(tmp_path, run_here, options, message):
    code, _, errors = run_here('model_converters/convert.py', tmp_path / 'in.pth', '--out', tmp_path / 'out', *options)
    assert code == 2 and message in errors


def test_publishing(fixture_of, tmp_path):
    fixture = fixture_of('mmagic_32_wReLUinplace')
    arguments = [fixture.path, tmp_path / 'sagan.pth', '--no-discriminator', '--format', 'safetensors']
    result = run(*arguments, tool=f'{TOOLS}/publish_model.py')
    assert result.returncode == 0, result.stderr
    assert 'left out: discriminator' in result.stdout
    (path,) = tmp_path.glob('sagan-????????.safetensors')
    model = init_model(None, path)
    torch.testing.assert_close(model.sample(fixture.noise, fixture.label), fixture.images.flip(1), atol=1e-4, rtol=0)


def test_a_foreign_file_is_evaluated_by_the_tool(fixture_of, tmp_path, cifar_root):
    """Another project's checkpoint goes into tools/test.py as it is."""
    fixture = fixture_of('studiogan_legacy_32')
    metric = "[{'type':'InceptionScore','fake_nums':20,'inception_style':'digits','resize':False}]"
    arguments = ['configs/sagan/sagan_32_cvt_studioGAN.py', fixture.path, '--work-dir', tmp_path, '--cfg-options']
    options = ['model.generator.base_channels=32', 'model.discriminator.base_channels=16', f'test_evaluator.metrics={metric}']
    result = run(*arguments, *options, f'train_dataloader.dataset.data_root={cifar_root}', tool='tools/test.py')
    assert result.returncode == 0, result.stderr
    assert 'StudioGAN, before January 2022' in result.stdout and 'IS' in result.stdout


@pytest.mark.parametrize(
    'tool', ['convert', 'studiogan_to_mmsagan', 'openmmlab_to_mmsagan', 'mmsagan_to_studiogan', 'publish_model']
)
def test_mistakes_are_one_message_and_leave_nothing(tmp_path, tool):
    path, out = tmp_path / 'in.pth', tmp_path / 'out.pth'
    np.save(path.with_suffix('.npy'), np.zeros(3))
    path.with_suffix('.npy').rename(path)
    arguments = {
        'convert': [path, '--out', out],
        'studiogan_to_mmsagan': ['--generator', path, '--out', out],
        'openmmlab_to_mmsagan': [path, '--out', out],
        'mmsagan_to_studiogan': [path, '--out-dir', tmp_path / 'studio'],
        'publish_model': [path, out],
    }
    result = run(*arguments[tool], tool=f'{TOOLS}/{tool}.py')
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert result.stderr.startswith('error: ') and 'in.pth is no checkpoint' in result.stderr
    assert list(tmp_path.iterdir()) == [path]
