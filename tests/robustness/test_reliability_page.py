"""docs/reliability.md names tests that there are."""

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / 'docs' / 'reliability.md'


def test_every_promise_has_a_test():
    table = PAGE.read_text().partition('## What holds each promise')[2]
    rows = [line.strip('|').split('|') for line in table.splitlines() if line.startswith('| ') and '**' not in line][1:]
    assert len(rows) > 20
    for promise, tests in rows:
        named = re.findall(r'`([\w/]+\.py)(?:::(\w+))?`', tests)
        assert named, promise
        for file, function in named:
            text = (TESTS / file).read_text()
            assert f'def {function or "test_"}' in text, f'{file}::{function}'
