"""The table of commands: it has every script that a user needs, and what it says of each is so."""

import shlex
import sys
from pathlib import Path

import pytest
import torch

from mmsagan.cli.commands import COMMANDS, GROUPS, NAMES
from mmsagan.cli.main import load_tool, main

TOOLS = Path(__file__).parent.parent.parent / 'tools'
# Scripts without a command, and why.
INTERNAL = {
    'misc/class_agreement.py': "measures the demo for this repository's README",
    'misc/soak.py': 'looks for leaks, for the developers',
    'misc/visit_web_demo.py': 'measures the web demo, for the developers',
    'misc/train_small_extractor.py': "makes the package's own weights",
    'model_converters/mmsagan_to_studiogan.py': 'convert does it',
    'model_converters/openmmlab_to_mmsagan.py': 'convert does it',
    'model_converters/studiogan_to_mmsagan.py': 'convert does it',
}


def test_every_script_is_a_command_or_internal():
    scripts = {path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob('*.py')}
    commands = [command.script for command in COMMANDS.values()]
    assert len(set(commands)) == len(commands) and not set(commands) & set(INTERNAL)
    assert scripts == {*commands, *INTERNAL}


def test_no_command_is_lost_between_groups():
    assert len(COMMANDS) == sum(len(group) for group in GROUPS.values())
    assert all(name == command.name for name, command in COMMANDS.items())
    assert {'sample': 'sample', 'inception_stat': 'statistics', 'get_flops': 'flops'}.items() <= NAMES.items()


@pytest.mark.parametrize('name', COMMANDS)
def test_the_help_of_a_command(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmsagan', name, '--help'])
    monkeypatch.setenv('COLUMNS', '100')
    with pytest.raises(SystemExit) as info:
        main()
    text = capsys.readouterr().out
    assert info.value.code == 0 and text.startswith(f'usage: mmsagan {name} ')
    script = load_tool(COMMANDS[name].script)
    assert script.__doc__.splitlines()[0].split('.')[0] in ' '.join(text.split())
    examples = text.partition('\nexamples:\n')[2].splitlines()
    assert examples and all(line.startswith(f'  mmsagan {name} ') for line in examples)


@pytest.mark.parametrize('name', COMMANDS)
def test_the_examples_are_accepted(name, monkeypatch, capsys):
    """By the parser; what they name need not be there."""
    monkeypatch.setattr(sys, 'argv', [f'mmsagan {name}', '--help'])
    tool = load_tool(COMMANDS[name].script)
    with pytest.raises(SystemExit):
        tool.parse_args()
    for line in capsys.readouterr().out.partition('\nexamples:\n')[2].splitlines():
        monkeypatch.setattr(sys, 'argv', [f'mmsagan {name}', *shlex.split(line)[2:]])
        tool.parse_args()


@pytest.mark.parametrize(
    'line',
    [
        'train {}',
        'test {} model.pth',
        'series {} --work-dir series',
        'sample {} model.pth --out a.png',
        'class-grids {} model.pth --out a.png',
        'attention {} model.pth --out a.png',
        'export {} model.pth --format pt2 --out a.pt2',
        'check-data {}',
        'pack --data-cfg {} --out packed',
        'statistics --data-cfg {}',
        'print-config {}',
        'flops {}',
        'benchmark --config {}',
    ],
)
def test_every_command_looks_a_config_up_by_its_name(line, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={'generator.weight': torch.zeros(1)}), 'model.pth')
    monkeypatch.setattr(sys, 'argv', ['mmsagan', *line.format('sagan_32_mnist_b64x').split()])
    with pytest.raises(SystemExit) as info:
        main()
    message = capsys.readouterr().err.splitlines()[-1]  # MMEngine's logger may write to an earlier test's captured stream
    assert info.value.code == 2
    assert message.startswith('error: sagan_32_mnist_b64x is neither a file nor the name of a config')
    assert 'did you mean sagan_32_mnist_b64x1' in message
