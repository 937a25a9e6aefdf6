"""The pages: their commands exist with these options, and their code imports what exists."""

import ast
import importlib
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from mmsagan.engine.config import check_config, load_config

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / 'README.md', *sorted(ROOT.glob('docs/**/*.md')), *sorted(ROOT.glob('configs/*/README.md'))]
PAGES = [page for page in PAGES if '_build' not in page.parts]
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
pytestmark = pytest.mark.skipif(not (ROOT / 'mmsagan').is_dir(), reason='the pages are tested in the repository')


def blocks_of(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]


def id_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def tool_commands(page: Path) -> list[list[str]]:
    """Scripts with their arguments, also behind a launcher, ``mmsagan`` or variables, or in a line of prose."""
    lines = [line for block in blocks_of(page, 'bash') for line in block.replace('\\\n', ' ').splitlines()]
    lines += [text for text in re.findall(r'`((?:python tools/|mmsagan )[^`]+)`', page.read_text()) if '…' not in text]
    commands = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r'\w+=.*', words[0]):
            words.pop(0)
        script, *words = words or ['']
        if script == 'python' and words[0].startswith('tools/'):
            commands.append(words)
        elif match := re.fullmatch(r'tools/dist_(\w+)\.sh', script):
            positional = 1 if match[1] in ('train', 'evaluate') else 2
            tool = importlib.import_module('mmsagan.cli.main').COMMANDS[match[1]][0]
            commands.append([f'tools/{tool}', *words[:positional], *words[positional + 1 :]])
        elif script == 'mmsagan' and words[0].islower() and not words[0].startswith('-') and '--help' not in words:
            commands.append([f'tools/{importlib.import_module("mmsagan.cli.main").COMMANDS[words[0]][0]}', *words[1:]])
    return commands


@pytest.mark.parametrize('page', PAGES, ids=id_of)
def test_commands_and_their_options(page, monkeypatch, capsys):
    for script, *words in tool_commands(page):
        assert (ROOT / script).is_file(), script
        monkeypatch.setattr(sys, 'argv', [script, *words])
        try:
            runpy.run_path(str(ROOT / script), run_name='tool')['parse_args']()
        except SystemExit:
            pytest.fail(f'{script} {shlex.join(words)}: {capsys.readouterr().err}')


@pytest.mark.parametrize('page', PAGES, ids=id_of)
def test_python_imports_what_exists(page):
    for block in blocks_of(page, 'python'):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] in ('mmsagan', 'mmengine'):
                exec(ast.unparse(node), {})


def test_configs_of_the_tutorials(tmp_path):
    """Those that a user is told to write are without a mistake; they inherit from each other across pages."""
    for folder in {*(ROOT / 'configs').iterdir()} - {ROOT / 'configs' / 'mine'}:
        (tmp_path / folder.name).symlink_to(folder)
    (tmp_path / 'mine').mkdir()
    blocks = [block for page in PAGES for block in blocks_of(page, 'python') if 'tutorials' in page.parts]
    configs = {name[1]: block for block in blocks if (name := re.match(r'# configs/mine/(\w+\.py)\n', block))}
    for name, block in configs.items():
        (tmp_path / 'mine' / name).write_text(block)
    assert len(configs) > 5
    for name, block in configs.items():
        if 'custom_imports' not in block:  # of a module that is not there
            check_config(load_config(tmp_path / 'mine' / name), training=None)


def test_every_promise_of_the_page_on_reliability_names_a_test():
    table = (ROOT / 'docs' / 'reliability.md').read_text().partition('## What holds each promise')[2]
    rows = [line for line in table.splitlines() if line.startswith('| ') and '**' not in line][1:]
    named = [re.findall(r'`([\w/]+\.py)(?:::(\w+))?`', row) for row in rows]
    assert len(rows) > 20 and all(named)
    for file, function in sum(named, []):
        assert f'def {function or "test_"}' in (ROOT / 'tests' / file).read_text(), f'{file}::{function}'
