import logging

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis import attention_maps, train_from_config
from mmsagan.engine.hooks import AttentionVisualizationHook
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS
from mmsagan.visualization import attention_figure


class FakeRunner:
    """What the hook uses of a runner."""

    def __init__(self, model, classes=None, max_iters=7):
        self.model, self.iter, self.max_iters, self.images = model, 0, max_iters, {}
        self.logger = logging.getLogger('fake')
        dataset = type('FakeDataset', (), dict(metainfo=dict(classes=classes)))
        self.train_dataloader = type('FakeLoader', (), dict(dataset=dataset))
        self.visualizer = self

    def add_image(self, name, image, step):
        self.images[name, step] = image


@pytest.fixture
def model(gan_config, settle):
    return settle(MODELS.build(gan_config(ema_config=dict(momentum=0.9))))


@pytest.mark.parametrize('interval, steps', [(None, [7]), (3, [3, 6, 7])])
def test_interval_and_last_iteration(model, interval, steps, monkeypatch):
    monkeypatch.setattr(AttentionVisualizationHook, 'draw', lambda self, runner: drawn.append(runner.iter + 1))
    runner, drawn = FakeRunner(model), []
    hook = AttentionVisualizationHook(interval=interval)
    for runner.iter in range(7):
        hook.after_train_iter(runner, runner.iter)
    assert drawn == steps


def test_the_figure_is_that_of_the_api_and_changes_nothing(model):
    runner = FakeRunner(model.train(), classes=('cat', 'dog', 'cow'))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    hook = AttentionVisualizationHook(classes=[2, 0], num_queries=2, seed=5, sample_model='orig', name='maps')
    hook.before_train(runner)
    hook.draw(runner)
    assert torch.equal(torch.get_rng_state(), random) and model.generator.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    result = attention_maps(model, 2, labels=[2, 0], seed=5, sample_model='orig')
    expected = attention_figure(result.images, result.queries, result.maps, ['cow', 'cat'])
    assert np.array_equal(runner.images['maps', 1], expected)


def test_all_classes_of_few_and_models_without_classes(model, gan_config):
    for gan, rows in ((model, 3), (MODELS.build(gan_config(num_classes=0)), 4)):
        runner = FakeRunner(gan)
        AttentionVisualizationHook(num_queries=1).draw(runner)
        assert runner.images['attention', 1].shape == (28 + rows * 212, 28 + 2 * 200, 3)


def test_a_generator_without_attention_is_let_be(gan_config):
    config = gan_config()
    config['generator'].update(attention_after_nth_block=0)
    runner = FakeRunner(MODELS.build(config), max_iters=1)
    hook = AttentionVisualizationHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert not runner.images


def test_a_diverged_generator_ends_no_training(model, caplog):
    runner = FakeRunner(model)
    model.generator_ema.to_rgb.conv.bias.data.fill_(torch.nan)
    hook = AttentionVisualizationHook()
    hook.before_train(runner)
    hook.draw(runner)
    assert not runner.images and 'no attention figure: the samples hold NaN or Inf' in caplog.text


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(classes=[0, 3]), 'label out of range: 0 to 3'),
        (dict(layer='feat64'), "no attention layer 'feat64'; choose 'last', 'all' or one of feat16"),
        (dict(num_queries=0), 'the number of queries must be from 1'),
        (dict(sample_model='ema'), "sample_model='ema', but the model keeps no moving average"),
    ],
)
def test_mistakes_are_found_before_training(gan_config, arguments, message):
    runner = FakeRunner(MODELS.build(gan_config()))
    with pytest.raises(ConfigError, match=f'AttentionVisualizationHook: {message}'):
        AttentionVisualizationHook(**arguments).before_train(runner)


def test_the_figure_reaches_the_work_dir(tiny_run, tmp_path):
    cfg = tiny_run(max_iters=2)
    cfg.val_evaluator = cfg.test_evaluator = None
    cfg.custom_hooks = [dict(type='AttentionVisualizationHook', classes=[3])]
    train_from_config(cfg)
    files = list((tmp_path / 'run' / 'samples').iterdir())
    assert [file.name for file in files] == ['attention_2.png']
    assert Image.open(files[0]).size == (28 + 5 * 200, 28 + 212)
