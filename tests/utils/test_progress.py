import io

import pytest
import rich
from rich.console import Console

from mmsagan.utils.progress import are_bars_shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    'file, environment, shown', [(Terminal(), {}, True), (Terminal(), {'CI': 'true'}, False), (io.StringIO(), {}, False)]
)
def test_where_bars_are_shown(monkeypatch, file, environment, shown):
    for name in ('CI', 'FORCE_COLOR', 'NO_COLOR', 'TTY_COMPATIBLE', 'TTY_INTERACTIVE'):
        monkeypatch.delenv(name, raising=False)
    for name, value in {'TERM': 'xterm', **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rich, '_console', Console(file=file, width=100))
    assert are_bars_shown() == shown
