"""The page in this process: its checkpoints, what its handlers compute, and the limits of what it accepts."""

import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gradio import EventData
from mmengine.config import Config
from PIL import Image
from starlette.testclient import TestClient

from mmsagan.apis import attention_maps, init_model, sample
from mmsagan.apis.sampling import sample_inputs
from mmsagan.apis.zoo import resolve_config
from mmsagan.engine.config import load_config
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.visualization.attention import overlay
from mmsagan.web import controls, tabs
from mmsagan.web.app import build_app
from mmsagan.web.checkpoints import Checkpoints, resolve_checkpoint
from mmsagan.web.controls import Demo, class_choices
from mmsagan.web.handlers import (
    TrainingImageSearch,
    attention_panels,
    interpolation_frames,
    make_layout,
    sample_grid,
    side_by_side,
)


def weights_of(model):
    return torch.cat([parameter.flatten() for parameter in model.generator.parameters()])


def test_a_work_dir_stands_for_its_latest_checkpoint(experiment, tmp_path):
    for name in (experiment.folder, experiment.folder / 'iter_20.pth'):
        assert resolve_checkpoint(experiment.config, str(name)) == experiment.checkpoint
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        resolve_checkpoint('whatever', str(tmp_path))


def test_the_files_beside_the_checkpoint_are_offered_and_loaded_when_wanted(tmp_path, experiment):
    for path in experiment.folder.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / 'notes.pth').touch()
    checkpoints = Checkpoints(experiment.config, str(tmp_path))
    assert checkpoints.names() == ['iter_20.pth', 'iter_10.pth'] and checkpoints.first == 'iter_20.pth'
    for name in checkpoints.names():
        assert torch.equal(weights_of(checkpoints.model(name)), weights_of(init_model(experiment.config, tmp_path / name)))
    assert checkpoints.model('iter_10.pth') is checkpoints.model('iter_10.pth'), 'it is kept'
    shutil.copy(tmp_path / 'iter_20.pth', tmp_path / 'best_FID_iter_20.pth')
    assert checkpoints.names() == ['iter_20.pth', 'iter_10.pth', 'best_FID_iter_20.pth'], 'written since'
    older = checkpoints.model('iter_10.pth')
    shutil.copy(tmp_path / 'iter_20.pth', tmp_path / 'iter_10.pth')
    os.utime(tmp_path / 'iter_10.pth', ns=(1, 1))
    assert not torch.equal(weights_of(checkpoints.model('iter_10.pth')), weights_of(older)), 'written anew'
    (tmp_path / 'iter_10.pth').unlink()
    for name in ('iter_10.pth', '../small/iter_10.pth', '', str(experiment.folder / 'iter_10.pth')):
        with pytest.raises(ConfigError, match='no checkpoint'):
            checkpoints.model(name)


def test_others_may_have_their_own_config(experiment, plain_experiment):
    other = str(plain_experiment.folder / 'iter_20.pth')
    checkpoints = Checkpoints(experiment.config, experiment.checkpoint, others=[other], others_config=plain_experiment.config)
    name = f'{plain_experiment.folder.name}/iter_20.pth'
    assert checkpoints.names() == ['iter_20.pth', name, 'iter_10.pth']
    assert checkpoints.model(name).num_classes == 0 and checkpoints.model().num_classes == 10
    with pytest.raises(CheckpointError, match='gone.pth'):
        Checkpoints(experiment.config, experiment.checkpoint, others=['gone.pth'])


@pytest.fixture(scope='module')
def model(experiment):
    return init_model(experiment.config, experiment.checkpoint)


def nearly_equal(images, others) -> bool:
    """Equal except for the rounding of floats that differ in the last bits, in other batches."""
    return bool((images.int() - others.int()).abs().max() <= 1)


@pytest.mark.parametrize('options', [{}, dict(truncation=0.4, sample_model='orig')])
def test_the_samples_are_those_of_sample(model, options):
    images, grid = sample_grid(model, [], 6, 3, **options)
    assert torch.equal(images, sample(model, 6, seed=3, **options))
    images, grid = sample_grid(model, [8, 1], 3, 3, **options)
    assert torch.equal(images, sample(model, labels=[8, 8, 8, 1, 1, 1], seed=3, **options))
    assert grid.layout.draw(images).shape == (70, 104, 3)


def test_attention_of_a_pixel_of_an_image(model):
    options = dict(truncation=0.4, sample_model='orig')
    _, grid = sample_grid(model, [8, 1], 3, 3, **options)
    panels = attention_panels(model, grid, 4, 21, 7)
    reference = attention_maps(model, [(21, 7)], labels=[8, 8, 8, 1, 1, 1], seed=3, **options)
    image = reference.images[4].permute(1, 2, 0).numpy()
    expected = [image]
    for (layer, maps), (_, caption) in zip(reference.maps.items(), panels[1:], strict=True):
        attention = maps[4, 0].numpy()
        expected.append(np.rint(255 * overlay(image, attention / attention.max())))
        assert layer in caption and f' {attention.max() * 32 * 32:.1f} ' in caption
    for (picture, _), values in zip(panels, expected):
        difference = np.abs(picture[7::14, 7::14].astype(int) - values)
        assert difference[7, 21].max() <= 1, 'the pixel stays visible'
        assert (picture[7 * 14 + 7, 21 * 14 - 2] == (230, 25, 75)).all(), 'the ring'
        difference[5:10, 19:24] = 0  # the ring
        assert difference.max() <= 1


@pytest.mark.parametrize('seeds, classes', [((0, 5), (2, 2)), ((5, 5), (2, 9)), ((5, 0), (9, 2))])
def test_interpolation_between_two_samples(model, seeds, classes):
    frames = interpolation_frames(model, seeds, classes, 0.7)
    for frame, seed, label in zip((frames[0], frames[-1]), seeds, classes):
        noise = sample_inputs(model, seed).noise(0, 1)
        assert nearly_equal(frame, sample(model, noise=noise, labels=[label], truncation=0.7)[0])
    assert not any(torch.equal(frame, following) for frame, following in zip(frames, frames[1:]))


@pytest.mark.parametrize('count, size, per_class, shape', [(7, 32, None, (3, 3)), (10, 8, 1, (3, 4)), (33, 32, 11, (6, 6))])
def test_images_are_located_where_they_are_drawn(count, size, per_class, shape):
    """The colours of each pixel are its image number and position; the padding is white."""
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    images[:, 0] = torch.arange(count, dtype=torch.uint8)[:, None, None]
    images[:, 1] = torch.arange(size, dtype=torch.uint8)
    images[:, 2] = torch.arange(size, dtype=torch.uint8)[:, None]
    layout = make_layout(count, size, per_class)
    assert layout.cells.shape == shape
    if per_class and per_class > 1:
        assert set(range(0, count, per_class)) <= set(layout.cells[:, 0]), 'every class begins on a new row'
    picture = layout.draw(images).repeat(layout.scale, 0).repeat(layout.scale, 1)
    height, width = picture.shape[:2]
    assert max(height, width) >= 1000
    located = 0
    for x, y in np.random.RandomState(0).uniform(0, (width, height), (3000, 2)):
        colour = tuple(int(value) for value in picture[int(y), int(x)])
        assert layout.locate(x, y) == (None if colour == (255, 255, 255) else colour)
        located += colour != (255, 255, 255)
    assert located > 1000
    for outside in [(-1, 5), (5, -1), (width + 5, 5), (5, height + 5), (1e9, 1e9), (-1e9, 9)]:
        assert layout.locate(*outside) is None


def test_pictures_side_by_side():
    both = side_by_side(np.zeros((4, 6, 3), np.uint8), np.full((9, 5, 3), 7, np.uint8))
    assert both.shape == (9, 6 + 8 + 5, 3)
    assert (both[:4, :6] == 0).all() and (both[4:, :6] == 255).all() and (both[:, -5:] == 7).all()


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
    assert [(slider.value, slider.maximum) for slider in sliders] == [(5, 5)] * 3
    pickers = [block for block in components if 'class' in str(getattr(block, 'label', None)).lower()]
    assert len(pickers) == 5 and not any(picker.visible for picker in pickers)
    assert any('no attention layer' in str(getattr(block, 'value', None)) for block in components)
    frame, *_, film = handlers['interpolate'].fn(None, 0, None, 1, 3, None)
    assert frame.startswith('<div class="frame"')
    with Image.open(film) as gif:
        assert (gif.format, gif.is_animated, gif.size) == ('GIF', True, (256, 256))
    grid, *_ = handlers['sample'].fn([], 5, 3, 3, None)
    assert not grid.layout.has_names
    *_, download = handlers['sample'].fn([], 5, 3, 3, None)
    assert Path(download).name == 'iter_20_seed3.png'


def test_neighbours(build, experiment, tmp_path):
    """A copy of a sample among the training images is its nearest one; a data set that is not there is an error."""
    handlers, _ = build(experiment)
    model = init_model(experiment.config, experiment.checkpoint)
    with pytest.raises(controls.gr.Error, match='CIFAR-10'):
        handlers['neighbours'].fn([3], 4, 0, 3, None)
    copies = sample(model, labels=[3] * 12, seed=0).permute(0, 2, 3, 1).numpy()
    for number, image in enumerate(copies):
        path = tmp_path / 'images' / 'ab'[number % 2] / f'{number:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    config = tmp_path / 'copies.py'
    config.write_text(f"""
_base_ = {experiment.config!r}
train_dataloader = dict(dataset=dict(
    _delete_=True, type='ImageFolder', data_root={str(tmp_path / 'images')!r}, ann_file='', data_prefix=''))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
val_dataloader = dict(batch_size=4, dataset=dict(_delete_=True, pipeline=pipeline))
val_evaluator = test_evaluator = dict(metrics=[
    dict(type='FrechetInceptionDistance', inception_style='digits', fake_nums=600)], inception_pkl=None)
""")
    search = TrainingImageSearch(load_config(config), torch.device('cpu'))
    search.most = 9
    found, distances = search(torch.from_numpy(copies).permute(0, 3, 1, 2))
    assert found.shape == (12, 5, 3, 32, 32) and distances.shape == (12, 5) and len(search.dataset) == 9
    assert (distances[:, 0] < 1e-3).sum() == 9, 'of the copies, those that were chosen'
    handlers, _ = build(SimpleNamespace(config=str(config), checkpoint=experiment.checkpoint))
    picture, text = handlers['neighbours'].fn([3], 12, 0, 3, None)
    assert Path(picture).is_file() and '10 of the samples' in text and ' 12 training images' in text


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
    limits = [demo.read_samples(None, 1, 0, value)[3] for value in (0, 0.1, 2.9, 3, None)]
    assert limits == [0.1, 0.1, 2.9, None, None]
    assert [demo.read_samples(range(count), 40, 0, 3)[1] for count in (2, 3, 10, 100)] == [40, 33, 10, 1]
    with pytest.raises(ConfigError, match='too many classes .101.'):
        demo.read_samples(range(101), 1, 0, 3)
    with pytest.raises(ConfigError, match='seed'):
        demo.read_samples([], 1, None, 3)


def test_names_of_classes(experiment):
    choices = class_choices(load_config(experiment.config), 10)
    assert choices[3] == ('cat', 3) and [label for _, label in choices] == list(range(10))
    assert class_choices(Config({}), 3) == [('0', 0), ('1', 1), ('2', 2)] and class_choices(Config({}), 0) == []


def test_imagenet_classes_by_name_number_and_folder(monkeypatch):
    choices = class_choices(load_config(resolve_config('sagan_128_woReLUinplace_imagenet1k_b64x4')), 1000)
    assert [text.lower() for text, _ in (choices[207], choices[999])] == ['golden retriever (207)', 'toilet paper (999)']
    folders = ['n01440764', *(f'n{number:08}' for number in range(1, 999)), 'n15075141']
    monkeypatch.setattr(controls, 'class_names', lambda cfg, num_classes: folders)
    assert class_choices(Config({}), 1000)[1][0] == 'goldfish (1, n00000001)'
    folders[0] = 'n99999999'
    assert class_choices(Config({}), 1000)[1] == ('n00000001', 1), '1000 folders of another data set'


@pytest.mark.parametrize(
    'root_path, root',
    [('', 'http://host'), ('/a/b/', 'http://host/a/b'), ('https://example.org/a/b', 'https://example.org/a/b')],
)
def test_behind_a_proxy(experiment, tmp_path, root_path, root):
    """Whether or not the proxy removes the path from the requests, the page finds its files where the proxy offers them."""
    app = build_app(Checkpoints(experiment.config, experiment.checkpoint), str(tmp_path), 50, root_path)
    visitor = TestClient(app, base_url='http://host', follow_redirects=False)
    for prefix in {'', '/a/b' if root_path else ''}:
        assert visitor.get(f'{prefix}/config').json()['root'] == root
        page = visitor.get(f'{prefix}/').text
        assets = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page)
        assert f'"{root}"' in page and assets and visitor.get(f'{prefix}/{assets[0]}').status_code == 200
    if root_path:
        assert visitor.get('/a/b').headers['location'] == f'{root_path.rstrip("/")}/'
        assert visitor.get('/a/bc/config').status_code == 404


def test_names_that_are_not_utf8(experiment, tmp_path):
    folder = tmp_path / os.fsdecode(b'w\xff')
    config, checkpoint = folder / os.fsdecode(b'a\xff.py'), folder / os.fsdecode(b'b\xff.pth')
    folder.mkdir()
    shutil.copy(experiment.config, config)
    shutil.copy(experiment.checkpoint, checkpoint)
    checkpoints = Checkpoints(str(config), str(checkpoint))
    visitor = TestClient(build_app(checkpoints, str(tmp_path), 50, ''))
    text = visitor.get('/config').text
    assert checkpoints.names() == ['b\\udcff.pth'] and 'a\\\\udcff' in text and 'b\\\\udcff.pth' in text


def test_names_below_images(model):
    """Names are shortened to the width of an image, whatever they and its size are; a click finds the image."""
    for size, per_class, names in [(32, 10, ['aeroplane\n(0)', '7']), (16, 50, ['a name', '']), (128, 2, ['x' * 500, 'y'])]:
        layout = make_layout(2 * per_class, size, per_class, has_names=True)
        images = torch.zeros(2 * per_class, 3, size, size, dtype=torch.uint8)
        picture = layout.display(images, [name for name in names for _ in range(per_class)])
        rows, columns = layout.cells.shape
        assert picture.shape[0] == rows * (layout.pitch + layout.name_height) + 2 * layout.scale
        assert picture.shape[1] == columns * layout.pitch + 2 * layout.scale
        for row, column in ((0, 0), (rows - 1, columns - 1)):
            left, top = 2 * layout.scale + column * layout.pitch, 2 * layout.scale + row * (layout.pitch + layout.name_height)
            index = layout.cells[row, column]
            shown = picture[top : top + size * layout.scale, left : left + size * layout.scale]
            assert shown.min() == shown.max() == (255 if index < 0 else 0)
            expected = None if index < 0 else (index, size - 1, 3)
            assert layout.locate(left + (size - 0.5) * layout.scale, top + 3.5 * layout.scale) == expected
