"""The page as Gradio has it, in this process: what the browser does not show."""

import pytest

from mmsagan.web import page
from mmsagan.web.checkpoints import Checkpoints


@pytest.fixture
def blocks(tmp_path, monkeypatch, experiment):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    return page.build_page(Checkpoints(experiment.config, experiment.checkpoint), tmp_path)


def test_one_job_at_a_time_whoever_asks(blocks):
    jobs = [event for event in blocks.fns.values() if event.fn is not None and event.name != 'offer_checkpoints']
    assert {event.name for event in jobs} == {'sample', 'look', 'interpolate', 'compare'}
    for event in jobs:
        assert (event.concurrency_id, event.concurrency_limit, event.queue) == ('model', 1, True)


def test_few_images_at_a_time(tmp_path, monkeypatch, plain_experiment):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    checkpoints = Checkpoints(plain_experiment.config, plain_experiment.checkpoint)
    blocks = page.build_page(checkpoints, tmp_path, max_images=5)
    sliders = [block for block in blocks.blocks.values() if getattr(block, 'label', None) == 'Images']
    assert [(slider.value, slider.maximum) for slider in sliders] == [(5, 5)] * 2
    sample = next(event for event in blocks.fns.values() if event.name == 'sample')
    _, picture, caption, download = sample.fn([], 5, 3, 3, None)
    assert caption == '5 samples of seed 3.' and download.endswith('/iter_20_seed3.png')
