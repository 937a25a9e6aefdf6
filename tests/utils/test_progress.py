import io
import logging
import re

import pytest
import rich
from mmengine.logging import MMLogger
from rich.console import Console

from mmsagan.utils.progress import are_bars_shown, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    'file, environment, shown',
    [
        (Terminal(), {}, True),
        (Terminal(), {'CI': 'true'}, False),
        (Terminal(), {'TERM': 'dumb'}, False),
        (io.StringIO(), {'FORCE_COLOR': '1'}, False),
    ],
)
def test_where_bars_are_shown(monkeypatch, file, environment, shown):
    for name in ('CI', 'FORCE_COLOR', 'NO_COLOR', 'TTY_COMPATIBLE', 'TTY_INTERACTIVE'):
        monkeypatch.delenv(name, raising=False)
    for name, value in {'TERM': 'xterm', **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rich, '_console', Console(file=file, width=100))
    assert are_bars_shown() == shown
    logger = MMLogger.get_instance(f'bars-{environment}')
    logger.setLevel(logging.INFO)
    with progress_bar('training', 10, completed=2) as advance:
        advance(3)
        logger.info('a log line')
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', file.getvalue())
    assert bool(re.search('training ━.* 5/10 ', text)) == ('a log line' in text) == shown
