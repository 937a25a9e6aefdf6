import io
import logging
import re

import pytest
import rich
from rich.console import Console

from mmsagan.engine.hooks import progress
from mmsagan.engine.hooks.progress import ProgressHook, TrainingDisplay, is_routine
from mmsagan.engine.log_processor import IterationLine

NUMBERS = dict(
    loss='loss D 1.567 G 0.483',
    logits='logits real 0.319 fake -0.368',
    speed='2310 images/s',
    memory='11.3 GB',
    skipped='skipped updates 3',
    waiting='40 % of the time waiting for data',
)


def shown(display, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    console.print(display)
    return console.file.getvalue().splitlines()


@pytest.fixture
def display():
    display = TrainingDisplay(500_000, 123_456)
    display.numbers, display.eta = NUMBERS, 2 * 86400
    return display


@pytest.mark.parametrize('width', [40, 60, 80, 100, 140, 200])
def test_two_lines_fit_every_terminal(display, width):
    lines = shown(display, width)
    assert len(lines) == 2 and all(len(line) <= width for line in lines)
    assert lines[0].startswith('training 123456/500000 ━')


def test_what_a_narrow_terminal_does_without(display):
    wide, usual, narrow = (shown(display, width) for width in (140, 80, 55))
    assert wide[1].strip() == '  '.join(NUMBERS.values())
    assert usual[1].split('  ')[:4] == ['loss D 1.567 G 0.483', '2310 images/s', 'skipped updates 3']
    assert narrow[1].strip() == 'loss D 1.567 G 0.483  2310 images/s  skipped updates 3'
    assert shown(display, 30)[1].strip() == 'loss D 1.567 G 0.483'
    assert 'left 2 days 0:00:00' in wide[0] and re.search(r'\d:\d\d:\d\d left', usual[0])
    assert 'left 2 days' in narrow[0] and not re.search(r'\d:\d\d:\d\d left', narrow[0])


def test_the_usual_numbers_fit_into_80_columns():
    display = TrainingDisplay(900, 10)
    display.numbers = {name: NUMBERS[name] for name in ('loss', 'logits', 'speed', 'memory')}
    assert shown(display, 80)[1].strip() == '  '.join(display.numbers.values())


def test_the_bar_shows_how_much_is_done():
    """Done and to be done differ in style: of 36 places, none, half and all."""
    places = []
    for done in (0, 50, 100):
        console = Console(width=60, file=io.StringIO(), force_terminal=True, color_system='standard')
        bar = TrainingDisplay(100, done).first_line(60).columns[1]._cells[0]
        segments = [segment for segment in console.render(bar) if segment.text.strip()]
        ahead = console.get_style('bar.back')
        places.append(sum(len(segment.text) for segment in segments if segment.style != ahead) / bar.width)
    assert places == [0, pytest.approx(0.5, abs=0.05), 1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 100 columns, which rich writes to."""
    monkeypatch.delenv('CI', raising=False)
    monkeypatch.setenv('TERM', 'xterm')
    terminal = Terminal()
    monkeypatch.setattr(rich, '_console', Console(file=terminal, force_terminal=True, width=100, color_system=None))
    return terminal


def test_a_training_on_a_terminal(terminal, quick_runner):
    """The display has the numbers, the log's lines of iterations go to the file only, and others appear above."""
    runner = quick_runner(6, hooks=dict(progress=dict(type='ProgressHook', interval=2)))
    runner.train()
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', terminal.getvalue())
    assert re.search(r'training 6/6 ━+ 0:00:\d\d left 0:00:00', text)
    assert re.search(r'loss D \S+ G \S+  logits real \S+ fake \S+  \S+ images/s  [\d.]+ [MG]B', text)
    assert 'Saving checkpoint at 6 iterations' in text and '[6/6]' not in text
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as log:
        assert '[6/6]  loss D' in log.read()


def test_a_training_elsewhere(monkeypatch, quick_runner, capsys):
    monkeypatch.setattr(progress, 'are_bars_shown', lambda: False)
    quick_runner(2, hooks=dict(progress=dict(type='ProgressHook'))).train()
    said = capsys.readouterr().out
    assert '[2/2]  loss D' in said and 'training 2/2' not in said and '\x1b[' not in said


def test_stopping_at_any_time(terminal, quick_runner):
    hook = ProgressHook()
    hook.stop()
    runner = quick_runner(2)
    hook.before_train(runner)
    hook.stop()
    hook.stop()
    hook.after_train_iter(runner, 0)
    runner.logger.info('a line after all')
    assert 'a line after all' not in terminal.getvalue()


def test_what_is_routine():
    def record(message):
        return logging.LogRecord('mmengine', logging.INFO, 'file', 1, message, (), None)

    assert is_routine(record(IterationLine('[1/2]'))) and is_routine(record('Exp name: a'))
    assert not is_routine(record('[1/2]'))
