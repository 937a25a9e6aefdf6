import io
import logging

import pytest
import rich
from mmengine.logging import MMLogger
from rich.console import Console

from mmsagan.utils.progress import are_bars_shown, logs_above_bars


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    'file, environment, shown',
    [
        (Terminal(), {}, True),
        (Terminal(), {'CI': 'true'}, False),
        (Terminal(), {'CI': 'false'}, True),
        (Terminal(), {'TERM': 'dumb'}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {'FORCE_COLOR': '1'}, False),
    ],
)
def test_where_bars_are_shown(monkeypatch, file, environment, shown):
    for name in ('CI', 'FORCE_COLOR', 'NO_COLOR', 'TTY_COMPATIBLE', 'TTY_INTERACTIVE'):
        monkeypatch.delenv(name, raising=False)
    for name, value in {'TERM': 'xterm', **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rich, '_console', Console(file=file))
    assert are_bars_shown() == shown


def test_hidden_lines_stay_in_the_log_file(tmp_path, capsys):
    logger = MMLogger.get_instance('hidden-lines', log_file=str(tmp_path / 'a.log'))
    logger.setLevel(logging.INFO)
    with logs_above_bars(hidden=lambda record: 'routine' in record.msg):
        logger.info('a routine line')
        logger.info('a special line')
    logger.info('a routine line afterwards')
    said = capsys.readouterr().out
    assert 'a routine line\n' not in said and 'a special line' in said and 'routine line afterwards' in said
    written = next(tmp_path.rglob('*.log')).read_text()
    assert all(line in written for line in ('a routine line\n', 'a special line', 'afterwards'))
