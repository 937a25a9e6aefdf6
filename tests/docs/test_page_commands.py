"""What the pages tell to type and to write: options that there are, files that there are, names that there are."""

import argparse
import ast
import importlib
import re
import runpy
import shlex
import sys

import pytest
from documentation import PAGES, ROOT, Block, Command, blocks_of

from mmsagan.engine.config import check_config, is_evaluation_only, load_config
from mmsagan.registry import ALIASES

# What a reader puts something else for.
PLACEHOLDER = re.compile(r'[A-Z_/]+(\.(pth|json))?|G\.pth|D\.pth')
# Written by commands before, or the reader's own.
NOT_HERE = ('work_dirs/', 'data/', 'metrics.json', 'studiogan.pth', 'mmagic.pth', 'digits/', 'samples', 'test_my_attention.py')


def id_of(page) -> str:
    return str(page.relative_to(ROOT))


class ParsedError(Exception):
    """Raised in the place of what a tool would do with its arguments."""


def tool_commands(page) -> list[Command]:
    """The commands of a page that run one of our Python tools, also by a launcher or in a line of prose's code."""
    commands = [command for block in blocks_of(page) if block.language == 'bash' for command in block.commands]
    quoted = re.findall(r'`(python tools/[^`]+)`', page.read_text())
    commands += [Command.of(shlex.split(text)) for text in quoted if '…' not in text]
    return [command for command in map(as_python, commands) if command.words[:1] == ('python',) and command.words[1] != '-m']


def as_python(command: Command) -> Command:
    """What a launcher starts, but for the launcher."""
    script, *words = command.words or ('',)
    if script == 'tools/slurm_train.sh':
        return Command(command.env, ('python', 'tools/train.py', words[2], *words[4:]))
    match = re.fullmatch(r'tools/dist_(\w+)\.sh', script)
    if match:
        positional = 1 if match[1] == 'train' else 2
        words = [*words[:positional], *words[positional + 1 :]]
        return Command(command.env, ('python', f'tools/{match[1]}.py', *words))
    return command


def parse(command: Command, monkeypatch) -> argparse.Namespace:
    """What the tool makes of its arguments."""
    original, parsed = argparse.ArgumentParser.parse_args, []

    def parse_args(self, *args, **kwargs):
        parsed.append(original(self, *args, **kwargs))
        raise ParsedError

    script, *words = command.words[1:]
    with monkeypatch.context() as patch, pytest.raises(ParsedError):
        patch.setattr(sys, 'argv', [script, *words])
        patch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
        runpy.run_path(str(ROOT / script), run_name='tool')['main']()
    return parsed[0]


@pytest.mark.parametrize('page', PAGES, ids=id_of)
def test_tools_know_the_options_of_their_commands(page, monkeypatch, capsys):
    written = {block.file for other in PAGES for block in blocks_of(other)}
    for command in tool_commands(page):
        assert (ROOT / command.words[1]).is_file(), command
        try:
            parse(command, monkeypatch)
        except SystemExit:
            pytest.fail(f'{command}: {capsys.readouterr().err}')
        for word in command.words[2:]:
            is_path = '/' in word and re.fullmatch(r'[\w./*=-]+', word) and not re.fullmatch(r'[\w.]+=.*', word)
            if is_path and not word.startswith(NOT_HERE) and not PLACEHOLDER.fullmatch(word) and word not in written:
                assert list(ROOT.glob(word)), f'{command}: there is no {word}'


def test_a_command_with_an_option_that_there_is_not(monkeypatch):
    with pytest.raises(SystemExit):
        parse(Command.of(shlex.split('python tools/sample.py CONFIG CHECKPOINT --out a.png --nope')), monkeypatch)


@pytest.mark.parametrize('page', PAGES, ids=id_of)
def test_python_compiles_and_imports_what_there_is(page):
    for block in blocks_of(page):
        if block.language != 'python':
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] in ('mmsagan', 'mmengine'):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f'{id_of(page)}: {node.module} has no {", ".join(missing)}'


# One that inherits by the package's name needs it to be installed, which tests/packaging does.
CONFIGS = [block for page in PAGES for block in blocks_of(page) if block.language == 'python' and '_base_ =' in block.text]
CONFIGS = [block for block in CONFIGS if "'mmsagan::" not in block.text]


@pytest.mark.parametrize('block', CONFIGS, ids=lambda block: f'{id_of(block.page)}:{block.file}')
def test_configs_of_the_pages(tmp_path, monkeypatch, block: Block):
    """Written where the page says, or beside SAGAN's configs, with the modules of the page, they have no mistakes."""
    for folder in (ROOT / 'configs').iterdir():
        (tmp_path / 'configs').mkdir(exist_ok=True)
        (tmp_path / 'configs' / folder.name).symlink_to(folder)
    (tmp_path / 'configs' / 'sagan').unlink()
    (tmp_path / 'configs' / 'sagan').mkdir()
    for config in (ROOT / 'configs' / 'sagan').glob('*.py'):
        (tmp_path / 'configs' / 'sagan' / config.name).symlink_to(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for other in blocks_of(block.page):
        if other.file:
            (tmp_path / other.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / other.file).write_text(other.text)
    path = tmp_path / (block.file or 'configs/sagan/unnamed_of_a_page.py')
    path.write_text(block.text)
    config = load_config(path)
    check_config(config, training=not is_evaluation_only(config))


def test_the_names_of_the_migration_page():
    """Every alias is in its tables, with the name that it stands for in the same row."""
    rows = [line for line in (ROOT / 'docs' / 'migration.md').read_text().splitlines() if line.startswith('| ')]
    for alias, name in ALIASES.items():
        assert any(f'`{alias}`' in row and f'`{name}`' in row.rpartition(' | ')[2] for row in rows), f'{alias} -> {name}'
