"""The page in this process: its handlers, the limits of what it accepts, and the names of the classes."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradio import EventData
from mmengine.config import Config

from mmsagan.apis.zoo import resolve_config
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError
from mmsagan.web import controls, tabs
from mmsagan.web.checkpoints import Checkpoints
from mmsagan.web.controls import Demo, class_choices, read_truncation


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Builds the page of an experiment: build(experiment) -> its handlers by name, and its components."""
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))

    def page(experiment, **options):
        blocks = tabs.build_page(Checkpoints(experiment.config, experiment.checkpoint), tmp_path, **options)
        return {event.name: event for event in blocks.fns.values() if event.fn is not None}, blocks.blocks.values()

    return page


def test_a_model_is_used_by_one_visitor_at_a_time(build, experiment, monkeypatch):
    """Also by those who click a pixel, which bypasses the queue."""
    handlers, _ = build(experiment)
    assert all(handlers[name].queue for name in ('sample', 'interpolate', 'compare')) and not handlers['look'].queue
    grid, _, caption, *_ = handlers['sample'].fn([3, 8], 4, 0, 3, 'ema')
    assert 'cat, ship' in caption
    using, most = [], []

    def noted(function):
        def call(*args, **kwargs):
            using.append(function)
            most.append(len(using))
            time.sleep(0.01)
            using.remove(function)
            return function(*args, **kwargs)

        return call

    for name in ('sample_grid', 'attention_panels', 'interpolation_frames'):
        monkeypatch.setattr(tabs, name, noted(getattr(tabs, name)))
    click = EventData(None, dict(index=[100, 100]))
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            pool.submit(handlers['sample'].fn, [], 4, 0, 3, 'ema')
            pool.submit(handlers['look'].fn, grid, click)
            pool.submit(handlers['interpolate'].fn, 0, 0, 1, 1, 3, 'ema')
    assert len(most) == 3 * 4 and max(most) == 1, 'a sampling draws attention, too'


def test_a_plain_model_and_few_images(build, plain_experiment):
    handlers, components = build(plain_experiment, max_images=5)
    sliders = [block for block in components if getattr(block, 'label', None) == 'Images']
    assert [(slider.value, slider.maximum) for slider in sliders] == [(5, 5)] * 2
    pickers = [block for block in components if 'class' in str(getattr(block, 'label', None)).lower()]
    assert len(pickers) == 4 and not any(picker.visible for picker in pickers)
    assert any('no attention layer' in str(getattr(block, 'value', None)) for block in components)
    assert handlers['interpolate'].fn(None, 0, None, 1, 3, None)[0].startswith('<div class="frame"')
    *_, download = handlers['sample'].fn([], 5, 3, 3, None)
    assert Path(download).name == 'iter_20_seed3.png'


def test_comparing_models_that_do_not_match(tmp_path, monkeypatch, experiment, plain_experiment):
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
    others = dict(others=[plain_experiment.checkpoint], others_config=plain_experiment.config)
    checkpoints = Checkpoints(experiment.config, experiment.checkpoint, **others)
    blocks = tabs.build_page(checkpoints, tmp_path)
    (compare,) = (event.fn for event in blocks.fns.values() if event.name == 'compare')
    with pytest.raises(controls.gr.Error, match='num_classes'):
        compare([], 4, 0, 3, checkpoints.names()[0], None, checkpoints.names()[1], None)
    with pytest.raises(controls.gr.Error, match='&lt;b&gt;'):
        compare([], 4, 0, 3, '<b>', None, '<b>', None)


def test_limits():
    demo = Demo(None, (), (), Path(), 100)
    assert demo.read_samples([3, 5], 2.0, 7, 0.5) == ([3, 5], 2, 7, 0.5)
    assert [demo.read_samples(None, number, 0, 3)[1] for number in (0, None, 1e9)] == [1, 1, 100]
    assert [read_truncation(value) for value in (0, 0.1, 2.9, 3, None)] == [0.1, 0.1, 2.9, None, None]
    with pytest.raises(ConfigError, match='120 images'):
        demo.read_samples([0, 1, 2], 40, 0, 3)
    with pytest.raises(ConfigError, match='seed'):
        demo.read_samples([], 1, None, 3)


def test_names_of_classes(experiment, monkeypatch):
    choices = class_choices(load_config(experiment.config), 10)
    assert choices[3] == ('cat', 3) and [label for _, label in choices] == list(range(10))
    assert class_choices(Config({}), 3) == [('0', 0), ('1', 1), ('2', 2)] and class_choices(Config({}), 0) == []
    monkeypatch.setattr(controls, 'class_names', lambda cfg, num_classes: ['crane', 'crane', 'cat'])
    assert class_choices(Config({}), 3) == [('crane (0)', 0), ('crane (1)', 1), ('cat (2)', 2)]


def test_imagenet_classes_by_name_number_and_folder(monkeypatch):
    choices = class_choices(load_config(resolve_config('sagan_128_woReLUinplace_imagenet1k_b64x4')), 1000)
    assert [text.lower() for text, _ in (choices[207], choices[999])] == ['golden retriever (207)', 'toilet paper (999)']
    folders = ['n01440764', *(f'n{number:08}' for number in range(1, 999)), 'n15075141']
    monkeypatch.setattr(controls, 'class_names', lambda cfg, num_classes: folders)
    assert class_choices(Config({}), 1000)[1][0] == 'goldfish (1, n00000001)'
    folders[0] = 'n99999999'
    assert class_choices(Config({}), 1000)[1] == ('n00000001', 1), '1000 folders of another data set'
