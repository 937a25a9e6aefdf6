"""Sample grids, attention figures, and where they and the numbers go."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis import attention_maps, train_from_config
from mmsagan.engine.hooks import AttentionVisualizationHook, VisualizationHook
from mmsagan.errors import ConfigError
from mmsagan.registry import HOOKS, MODELS
from mmsagan.visualization import attention_figure


class FakeRunner:
    def __init__(self, model, max_iters=10, classes=None):
        self.model, self.iter, self.max_iters, self.images = model, 0, max_iters, {}
        self.logger = logging.getLogger('fake')
        dataset = type('FakeDataset', (), dict(metainfo=dict(classes=classes)))
        self.train_dataloader = type('FakeLoader', (), dict(dataset=dataset))
        self.visualizer = self

    def add_image(self, name, image, step):
        self.images[name, step] = image


class ConstantModel:
    """Paints class c with grey level c / 10, plus the noise's first component / 100."""

    num_classes, noise_size, generator_ema = 3, 2, None

    def sample(self, noise, label, sample_model=None):
        level = label / 10 + noise[:, 0].clamp(-1, 1) / 100 if label is not None else noise[:, 0]
        return level[:, None, None, None].expand(-1, 3, 4, 4)


def test_columns_are_classes_and_rows_are_noises():
    runner = FakeRunner(ConstantModel())
    VisualizationHook(interval=5, num_rows=4, vis_kwargs_list=dict(type='Noise', name='grid')).draw(runner)
    grid = runner.images['grid', 1]
    assert grid.shape == (4 * 6 + 2, 3 * 6 + 2, 3)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(2022))[:, 0].clamp(-1, 1)
    expected = (np.arange(3) / 10 + noise.numpy()[:, None] / 100) * 127.5 + 127.5
    np.testing.assert_allclose(grid[3::6, 3::6, 0].astype(float), expected, atol=0.51)


def test_interval_last_iteration_and_fixed_input():
    runner = FakeRunner(ConstantModel(), max_iters=7)
    grids = [dict(name='same'), dict(name='new', fixed_input=False)]
    hook = VisualizationHook(interval=3, num_rows=2, vis_kwargs_list=grids)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for runner.iter in range(7):
        hook.after_train_iter(runner, runner.iter)
    assert torch.equal(torch.rand(1), expected), "the training's random numbers are left alone"
    images = runner.images
    assert set(images) == {(name, step) for name in ('same', 'new') for step in (3, 6, 7)}
    assert np.array_equal(images['same', 3], images['same', 7]) and not np.array_equal(images['new', 3], images['new', 6])


@pytest.mark.parametrize(
    'grid, names',
    [
        (dict(sample_model='ema/orig', target_keys=['ema.fake_img', 'orig.fake_img']), {'a_ema', 'a_orig'}),
        (dict(sample_model='ema/orig', target_keys='orig.fake_img'), {'a_orig'}),
        (dict(), {'a'}),
    ],
)
def test_pictures_of_both_networks(grid, names):
    model = ConstantModel()
    model.generator_ema = object()
    runner = FakeRunner(model)
    VisualizationHook(num_rows=1, classes=[2], vis_kwargs_list=dict(type='Noise', name='a', **grid)).draw(runner)
    assert {name for name, _ in runner.images} == names and runner.images[names.pop(), 1].shape == (8, 8, 3)


@pytest.mark.parametrize(
    'hook, message',
    [
        (dict(classes=[12]), 'class 12 is out of range'),
        (dict(vis_kwargs_list=dict(sample_model='ema')), 'no moving average'),
        (dict(vis_kwargs_list=dict(sample_model='orig', target_keys='ema.fake_img')), 'ema.fake_img'),
        (dict(vis_kwargs_list=dict(n_sample=9)), 'n_sample'),
    ],
)
def test_mistakes_are_found_before_training(gan_config, hook, message):
    runner = FakeRunner(MODELS.build(gan_config(num_classes=10)))
    with pytest.raises((ConfigError, TypeError), match=message):  # a TypeError while building is a mistake in the config
        HOOKS.build({'type': 'VisualizationHook', **hook}).before_train(runner)


@pytest.fixture
def model(gan_config, settle):
    return settle(MODELS.build(gan_config(ema_config=dict(momentum=0.9))))


def test_the_attention_figure_is_that_of_the_api_and_changes_nothing(model):
    runner = FakeRunner(model.train(), classes=('cat', 'dog', 'cow'))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    hook = AttentionVisualizationHook(classes=[2, 0])
    hook.before_train(runner)
    hook.draw(runner)
    assert torch.equal(torch.get_rng_state(), random) and model.generator.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    result = attention_maps(model, 4, labels=[2, 0], seed=0)
    expected = attention_figure(result.images, result.queries, result.maps, ['cow', 'cat'])
    assert np.array_equal(runner.images['attention', 1], expected)


def test_attention_without_classes_and_without_attention(gan_config):
    without_attention = gan_config()
    without_attention['generator'].update(attention_after_nth_block=0)
    for config, figures in ((gan_config(num_classes=0), {('attention', 1)}), (without_attention, set())):
        runner = FakeRunner(MODELS.build(config), max_iters=1)
        hook = AttentionVisualizationHook()
        hook.before_train(runner)
        hook.after_train_iter(runner, 0)
        assert set(runner.images) == figures


def test_attention_of_a_diverged_generator_is_a_warning(model, caplog):
    runner = FakeRunner(model)
    model.generator_ema.to_rgb.conv.bias.data.fill_(torch.nan)
    AttentionVisualizationHook().draw(runner)
    assert not runner.images and 'no attention figure' in caplog.text


def test_what_tensorboard_and_the_work_dir_get(tiny_run):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    hooks = [dict(type='VisualizationHook', interval=2, num_rows=2), dict(type='AttentionVisualizationHook', classes=[3])]
    cfg = tiny_run(max_iters=4, custom_hooks=hooks, val_evaluator=None)
    cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))
    train_from_config(cfg)
    samples = Path(cfg.work_dir, 'samples')
    assert {path.name for path in samples.iterdir()} == {'fake_img_2.png', 'fake_img_4.png', 'attention_4.png'}
    folder = next(Path(cfg.work_dir).glob('*/vis_data'))
    events = accumulator.EventAccumulator(str(folder), size_guidance=dict(images=0, scalars=0)).Reload()
    records = [json.loads(line) for line in (folder / 'scalars.json').read_text().splitlines()]
    for name in ('loss_disc', 'images_per_second', 'generator.lr'):
        expected = [(record['step'], record[name]) for record in records]
        np.testing.assert_allclose([(event.step, event.value) for event in events.Scalars(name)], expected, rtol=1e-5)
    assert [(image.step, image.width, image.height) for image in events.Images('fake_img')] == [(2, 342, 70), (4, 342, 70)]
    assert Image.open(samples / 'fake_img_2.png').size == (342, 70)
