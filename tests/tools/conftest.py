import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent.parent / 'tools'
sys.path.insert(0, str(TOOLS / 'misc'))  # for the modules that tools share, or have their long parts in


@pytest.fixture
def run_here(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs a tool within this process: run_here('sample.py', argument, ...) -> exit code, output and errors."""

    def run(name: str, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            runpy.run_path(str(TOOLS / name), run_name='__main__')
        said = capsys.readouterr()
        return info.value.code or 0, said.out, said.err

    return run
