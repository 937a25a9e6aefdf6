"""``mmsagan`` itself: its help, mistakes, and that it hands on what a tool ends with."""

import json
import platform
import subprocess
import sys

import pytest
import torch

from mmsagan import __version__, shipped
from mmsagan.cli import main as front_door
from mmsagan.cli.commands import COMMANDS, GROUPS, Command
from mmsagan.cli.main import main
from mmsagan.shipped import shipped_root


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls the command: call(argument, ...) -> exit code, output and errors."""
    monkeypatch.setattr(sys, 'argv', ['mmsagan'])  # is put back afterwards

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as info:
            main(arguments)
        said = capsys.readouterr()
        return info.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Makes the command ``toy`` of a script with this body of its ``main``."""

    def make(body: str) -> None:
        (tmp_path / 'model-index.yml').touch()
        (tmp_path / 'tools').mkdir()
        (tmp_path / 'tools' / 'toy.py').write_text(f'import sys\nfrom mmsagan.errors import *\ndef main():\n    {body}\n')
        monkeypatch.setattr(shipped, '_PACKAGE', tmp_path / 'mmsagan')
        monkeypatch.setitem(COMMANDS, 'toy', Command('toy', 'toy.py', 'a toy'))

    return make


def test_the_overview_names_every_command(call):
    code, text, _ = call('--help')
    assert code == 0 and all(f'\n{title}:\n' in text for title in GROUPS)
    lines = [line.split(None, 1) for line in text.splitlines() if line.startswith('  ')]
    assert all([command.name, command.summary] in lines for command in COMMANDS.values())
    assert max(map(len, text.splitlines())) <= 100
    for same in ('-h', 'help'):
        assert call(same) == (code, text, '')


def test_without_a_command_there_is_the_overview_and_the_users_exit_code(call):
    code, output, errors = call()
    assert (code, output) == (2, '') and errors == call('--help')[1]


def test_versions(call):
    code, text, _ = call('--version')
    assert code == 0
    for part in (f'mmsagan {__version__},', f'torch {torch.__version__},', f'Python {platform.python_version()},', 'mmengine '):
        assert part in text
    assert text.endswith(f'configs and tools: {shipped_root()}\n')


@pytest.mark.parametrize(
    'typed, meant',
    [
        ('trian', 'train'),
        ('inception_stat', 'statistics'),
        ('tools/visualize_attention.py', 'attention'),
        ('plot-metrics', 'plot'),
        ('--versoin', '--version'),
    ],
)
def test_an_unknown_command(call, typed, meant):
    code, output, errors = call(typed, '--help')
    assert (code, output) == (2, '')
    assert errors.splitlines()[-1].startswith(f'error: there is no command {typed!r}; did you mean {meant}')


def test_an_unknown_command_like_none(call):
    assert call('xyzzy')[2].endswith("error: there is no command 'xyzzy'; mmsagan --help lists the commands\n")


@pytest.mark.parametrize(
    'body, code',
    [
        ('pass', 0),
        ('return 1', 1),
        ("raise DataError('no data')", 2),
        ("raise TrainingInterrupted('saved')", 75),
        ('raise KeyboardInterrupt', 130),
        ('sys.exit(3)', 3),
    ],
)
def test_exit_codes_are_the_tools(call, toy, body, code):
    toy(body)
    assert call('toy')[0] == code


def test_a_bug_keeps_its_traceback(toy, monkeypatch):
    toy("raise RuntimeError('a bug')")
    monkeypatch.setattr(sys, 'argv', ['mmsagan'])
    with pytest.raises(RuntimeError, match='a bug'):
        main(['toy'])


def test_arguments_are_handed_on_as_they_are(call, toy):
    toy('print(sys.argv)')
    given = ['--help', '-x', 'a b', '--', 'train']
    assert call('toy', *given)[1] == f'{["mmsagan toy", *given]}\n'


def test_ctrl_c_while_pytorch_is_imported(call, monkeypatch):
    def interrupted(script):
        raise KeyboardInterrupt

    monkeypatch.setattr(front_door, 'load_tool', interrupted)
    assert call('train') == (130, '', 'interrupted\n')


def test_an_incomplete_installation(call, toy):
    toy('pass')
    code, _, errors = call('train')
    assert code == 2 and errors.startswith('error: ') and 'train.py does not exist' in errors


@pytest.mark.parametrize('arguments', [['--help'], ['trian']])
def test_pytorch_is_not_imported_without_need(arguments):
    code = f"""
import json, sys
from mmsagan.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    print('\\n' + json.dumps(list(sys.modules)))
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    modules = json.loads(result.stdout.splitlines()[-1])
    assert 'mmsagan.cli.commands' in modules
    assert not {'torch', 'mmengine', 'numpy', 'yaml', 'mmsagan.apis'} & set(modules)
