"""The page as Gradio has it, in this process: what the browser does not show."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from gradio import EventData

from mmsagan.web import page, tabs
from mmsagan.web.checkpoints import Checkpoints


@pytest.fixture
def blocks(tmp_path, monkeypatch, experiment):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    return page.build_page(Checkpoints(experiment.config, experiment.checkpoint), tmp_path)


def handler(blocks, name):
    return next(event for event in blocks.fns.values() if event.fn is not None and event.name == name)


def test_what_takes_long_is_queued(blocks):
    for name in ('sample', 'interpolate', 'compare'):
        event = handler(blocks, name)
        assert (event.concurrency_id, event.concurrency_limit, event.queue) == ('model', 1, True)


def test_a_model_is_used_by_one_visitor_at_a_time(blocks, monkeypatch):
    """Also by those who click a pixel, which passes the queue by."""
    grid = handler(blocks, 'sample').fn([], 4, 0, 3, 'ema')[0]
    using, most = [], []

    def noted(function):
        def call(*args, **kwargs):
            using.append(function)
            most.append(len(using))
            time.sleep(0.01)
            using.remove(function)
            return function(*args, **kwargs)

        return call

    for name in ('sample_grid', 'attention_of', 'frames_between'):
        monkeypatch.setattr(tabs, name, noted(getattr(tabs, name)))
    click = EventData(None, dict(index=[100, 100]))
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            pool.submit(handler(blocks, 'sample').fn, [], 4, 0, 3, 'ema')
            pool.submit(handler(blocks, 'look').fn, grid, click)
            pool.submit(handler(blocks, 'interpolate').fn, 0, 0, 1, 1, 3, 'ema')
    assert len(most) == 3 * 4 and max(most) == 1, 'a sampling looks, too'


@pytest.mark.parametrize(
    'classes, number, caption',
    [
        ([], 40, '40 samples of seed 5, classes drawn at random.'),
        ([3], 16, '16 of class cat. Seed 5.'),
        ([3, 8], 8, '8 of each class, from top to bottom: cat, ship. Seed 5.'),
        ([3, 8], 16, '16 of each class, 2 rows a class: cat, ship. Seed 5.'),
        ([3, 8, 1], 1, '1 of each class, row by row: cat, ship, automobile. Seed 5.'),
    ],
)
def test_what_a_grid_shows_is_told(blocks, classes, number, caption):
    assert handler(blocks, 'sample').fn(classes, number, 5, 3, 'ema')[2] == caption


def test_drawn_classes_are_told_image_by_image(blocks):
    grid, _, caption, *_ = handler(blocks, 'sample').fn([], 16, 5, 3, 'ema')
    names = 'airplane automobile bird cat deer dog frog horse ship truck'.split()
    assert caption == f'16 samples of seed 5; classes, row by row: {", ".join(names[label] for label in grid.label)}.'


def test_few_images_at_a_time(tmp_path, monkeypatch, plain_experiment):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    checkpoints = Checkpoints(plain_experiment.config, plain_experiment.checkpoint)
    blocks = page.build_page(checkpoints, tmp_path, max_images=5)
    sliders = [block for block in blocks.blocks.values() if getattr(block, 'label', None) == 'Images']
    assert [(slider.value, slider.maximum) for slider in sliders] == [(5, 5)] * 2
    _, _, caption, download = handler(blocks, 'sample').fn([], 5, 3, 3, None)
    assert caption == '5 samples of seed 3.' and download.endswith('/iter_20_seed3.png')
