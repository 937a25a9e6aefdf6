from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from mmsagan.engine import summary
from mmsagan.engine.config_changes import MISSING
from mmsagan.engine.summary import Best, Summary, best_of, curves_picture, evaluations_table, progress_sentence


def curve(steps, values):
    return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)


def cells(text: str) -> list[list[list[str]]]:
    """The tables of a page as a Markdown reader finds them: rows of cells."""
    tables, is_within = [], False
    for token in MarkdownIt('commonmark').enable('table').parse(text):
        if token.type in ('table_open', 'table_close'):
            is_within = token.type == 'table_open'
            tables += [[]] if is_within else []
        elif token.type == 'tr_open':
            tables[-1].append([])
        elif token.type == 'inline' and is_within:
            tables[-1][-1].append(''.join(child.content for child in token.children))
    return tables


def links(text: str) -> list[str]:
    """Where the links and pictures of a page lead."""
    children = [child for token in MarkdownIt('commonmark').enable('table').parse(text) for child in token.children or ()]
    return [child.attrs.get('href', child.attrs.get('src')) for child in children if child.type in ('link_open', 'image')]


@pytest.mark.parametrize(
    'values, rule, expected',
    [
        ([3, 1, 2], 'less', (20, 1)),
        ([3, 1, 3], 'greater', (10, 3)),
        ([np.nan, 2, 4], 'less', (20, 2)),
        ([np.nan] * 3, 'less', None),
    ],
)
def test_the_best_of_a_curve(values, rule, expected):
    assert best_of(curve([10, 20, 30], values), rule) == expected


def test_the_table_of_evaluations():
    """The last ten, each result in its own column, also where one was not computed; the best in bold."""
    steps = list(range(100, 1300, 100))
    curves = {
        'IS/is': curve(steps, np.arange(12)),
        'FID/fid': curve(steps[2:], [5, 4, 3, 2, 1, 2, 3, 4, 5, 6]),
        'held_out/FID/fid': curve([1200], [0.25]),
        'loss_gen': curve([1], [1]),
    }
    text = evaluations_table(curves, {'FID/fid': Best('less', 1.0, 700), 'IS/is': Best('greater', 11.0, 1200)})
    (table,) = cells(text)
    assert table[0] == ['iteration', 'IS/is', 'FID/fid']
    assert [row[0] for row in table[1:]] == [*map(str, steps[2:]), 'held-out real']
    assert table[1][1:] == ['2.0000', '5.0000'] and table[-1][1:] == ['', '0.2500']
    assert '| 700 | 6.0000 | **1.0000** |' in text and '| **11.0000** | 6.0000 |' in text and text.count('**') == 4


def test_a_page_in_an_odd_place(tmp_path):
    """Signs that Markdown has a use for, in names and values; a file elsewhere."""
    folder = tmp_path / 'my runs (1)' / 'a|b'
    folder.mkdir(parents=True)
    page = Summary(
        title='a*b_c<d>',
        state='**Training**.',
        bases=['./base.py'],
        of_file={'a.b': (MISSING, 'x|y'), 'c': ([1], dict(d="`e'"))},
        of_command_line={'n': (1, 2)},
        files=[('here', folder / 'iter [1].pth'), ('there', Path('/elsewhere/x y.pth'))],
        machine='A machine.',
    )
    text = page.to_markdown(folder)
    first, second = cells(text)
    assert first == [['key', 'inherited', 'here'], ['a.b', '', "'x|y'"], ['c', '[1]', 'dict(d="`e\'")']]
    assert second == [['key', 'in the config', 'here'], ['n', '1', '2']]
    assert links(text) == ['iter%20%5B1%5D.pth', '/elsewhere/x%20y.pth']
    heading = MarkdownIt().parse(text)[1]
    assert ''.join(child.content for child in heading.children) == 'a*b_c<d>'


def test_what_a_page_leaves_out(tmp_path):
    text = Summary('a', '**Training**.', machine='A machine.').to_markdown(tmp_path)
    assert [line for line in text.splitlines() if line.startswith('#')] == ['# a', '## Files', '## Machine']
    text = Summary('a', '**Training**.', bases=[]).to_markdown(tmp_path)
    assert 'It inherits nothing.' in text
    assert 'and changes:\n\nnothing.' in Summary('a', '', bases=['b']).to_markdown(tmp_path)


def test_how_far_it_is():
    sentence = progress_sentence(625, 900, 200, 87, 198.4)
    assert sentence.startswith('**Training**: iteration 625 of 900 (69 %) after 0:03:20, 0:01:27 left at 198 images/s. As of 2')
    assert progress_sentence(1, 900, 2, None, None).startswith('**Training**: iteration 1 of 900 (0 %) after 0:00:02. As of 2')


def test_what_is_drawn(monkeypatch):
    """Results beside those of real images, without spreads; losses and logits, smoothed if there are many; no more than six."""
    drawn = {}
    monkeypatch.setattr(summary, 'to_bytes', lambda figure, kind: b'picture')
    monkeypatch.setattr(summary, 'curves_figure', lambda panels, smooth: drawn.update(panels=panels, smooth=smooth))
    many = curve(np.arange(500), np.arange(500))
    curves = {name: curve([1], [2]) for name in ('IS/is', 'IS/is_std', 'FID/fid', 'held_out/FID/fid', 'time')}
    curves |= dict(loss_disc=many, loss_gen=curve([5], [6]), loss_disc_real=many, logits_real=curve([5], [6]), logits_fake=many)
    assert curves_picture(curves) == b'picture'
    assert {name: list(lines) for name, lines in drawn['panels'].items()} == {
        'IS/is': ['samples'],
        'FID/fid': ['samples', 'held-out real'],
        'losses': ['D', 'G'],
        'logits': ['real', 'fake'],
    }
    assert drawn['smooth'] == dict(losses=10, logits=10)
    curves_picture(curves | {f'P{number}/p': curve([1], [1]) for number in range(9)})
    assert len(drawn['panels']) == 6 and {'losses', 'logits'} <= set(drawn['panels'])
    assert curves_picture({}) is None and curves_picture(dict(time=many)) is None
