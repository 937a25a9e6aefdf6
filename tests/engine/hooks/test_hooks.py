import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from mmsagan.apis import train_from_config
from mmsagan.engine.hooks import VisualizationHook
from mmsagan.errors import ConfigError, DataError


class FakeVisualizer:
    def __init__(self):
        self.images = {}

    def add_image(self, name, image, step):
        self.images[name, step] = image


class FakeRunner:
    """What the hook uses of a runner."""

    def __init__(self, model, max_iters=10):
        self.model, self.visualizer, self.iter, self.max_iters = model, FakeVisualizer(), 0, max_iters


class ConstantModel:
    """Paints class c with grey level c / 10, plus the noise's first component / 100."""

    num_classes, noise_size, generator_ema = 3, 2, None

    def sample(self, noise, label, sample_model=None):
        level = label / 10 + noise[:, 0].clamp(-1, 1) / 100 if label is not None else noise[:, 0]
        return level[:, None, None, None].expand(-1, 3, 4, 4)


def test_columns_are_classes_and_rows_are_noises():
    runner = FakeRunner(ConstantModel())
    VisualizationHook(interval=5, num_rows=4, vis_kwargs_list=dict(type='Noise', name='grid')).draw(runner)
    grid = runner.visualizer.images['grid', 1]
    assert grid.shape == (4 * 6 + 2, 3 * 6 + 2, 3)
    cells = grid[3::6, 3::6, 0].astype(float)
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(2022))[:, 0].clamp(-1, 1)
    expected = (np.arange(3) / 10 + noise.numpy()[:, None] / 100) * 127.5 + 127.5
    np.testing.assert_allclose(cells, expected, atol=0.51)


@pytest.mark.parametrize('fixed', [True, False])
def test_interval_last_iteration_and_fixed_input(fixed):
    runner = FakeRunner(ConstantModel(), max_iters=7)
    hook = VisualizationHook(interval=3, fixed_input=fixed, num_rows=2)
    for runner.iter in range(7):
        hook.after_train_iter(runner, runner.iter)
    images = runner.visualizer.images
    assert set(images) == {('fake_img', 3), ('fake_img', 6), ('fake_img', 7)}
    assert np.array_equal(images['fake_img', 3], images['fake_img', 6]) == fixed


def test_both_models_and_chosen_classes():
    model = ConstantModel()
    model.generator_ema = object()
    runner = FakeRunner(model)
    VisualizationHook(classes=[2], num_rows=1, vis_kwargs_list=[dict(name='a', sample_model='ema/orig'), dict(name='b')]).draw(
        runner
    )
    assert set(runner.visualizer.images) == {('a_ema', 1), ('a_orig', 1), ('b', 1)}
    assert runner.visualizer.images['b', 1].shape == (8, 8, 3)


def test_so_many_samples_of_random_classes():
    """MMagic's n_samples and n_row; the noise and the classes stay the same from picture to picture."""
    model = ConstantModel()
    runner = FakeRunner(model)
    grids = [dict(name='seven', n_samples=7), dict(name='wide', n_samples=7, n_row=20), dict(name='mmagic', n_row=16)]
    hook = VisualizationHook(vis_kwargs_list=[*grids, dict(name='classes')], num_rows=2)
    hook.draw(runner)
    runner.iter = 5
    hook.draw(runner)
    images = runner.visualizer.images
    # Cells are 4 pixels wide with 2 between them: 3 x 3 for 7 samples, 1 x 7, 4 x 16 for 64, 2 x 3 classes.
    shapes = {name: images[name, 1].shape[:2] for name in ('seven', 'wide', 'mmagic', 'classes')}
    assert shapes == dict(seven=(20, 20), wide=(8, 44), mmagic=(26, 98), classes=(14, 20))
    assert all(np.array_equal(images[name, 1], images[name, 6]) for name in shapes)
    wide = images['wide', 1][3, 3::6, 0].astype(float)
    classes = np.round((wide - 127.5) / 127.5 * 10).astype(int)
    assert set(classes) <= {0, 1, 2} and len(set(classes)) > 1
    seven = np.concatenate([images['seven', 1][3 + 6 * row, 3::6, 0] for row in range(3)])[:7]
    assert np.array_equal(seven, images['wide', 1][3, 3::6, 0]), 'the same samples, laid out otherwise'


def test_new_noise_for_some_grids_only():
    runner = FakeRunner(ConstantModel())
    hook = VisualizationHook(num_rows=2, vis_kwargs_list=[dict(name='same'), dict(name='new', fixed_input=False)])
    for runner.iter in (0, 1):
        hook.draw(runner)
    images = runner.visualizer.images
    assert np.array_equal(images['same', 1], images['same', 2]) and not np.array_equal(images['new', 1], images['new', 2])


@pytest.mark.parametrize(
    'target_keys, names',
    [
        (None, {'a_ema', 'a_orig'}),
        ('fake_img', {'a_ema', 'a_orig'}),
        (['ema.fake_img', 'orig.fake_img'], {'a_ema', 'a_orig'}),
        ('orig.fake_img', {'a_orig'}),
    ],
)
def test_target_keys_choose_the_pictures(target_keys, names):
    model = ConstantModel()
    model.generator_ema = object()
    runner = FakeRunner(model)
    grid = dict(type='Noise', name='a', sample_model='ema/orig', target_keys=target_keys)
    VisualizationHook(num_rows=1, vis_kwargs_list=grid).draw(runner)
    assert {name for name, _ in runner.visualizer.images} == names


def test_target_keys_of_a_network_that_is_not_sampled():
    grid = dict(sample_model='orig', target_keys='ema.fake_img')
    with pytest.raises(ConfigError, match="target_keys='ema.fake_img' names nothing that sample_model='orig' makes"):
        VisualizationHook(num_rows=1, vis_kwargs_list=grid).draw(FakeRunner(ConstantModel()))


def test_drawing_leaves_the_training_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    VisualizationHook(num_rows=1).draw(FakeRunner(ConstantModel()))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    'grid, message',
    [
        (dict(type='Translation'), "'GAN' or 'Noise'"),
        (dict(sample_model='emma'), "'orig', 'ema' or both"),
        (dict(nam='x'), "unknown key 'nam'"),
        (dict(target_keys=['fake_img', 'noise']), "target_keys='noise' cannot be drawn"),
        (dict(n_samples=0), 'at least 1, got 0 and None'),
    ],
)
def test_wrong_grids(grid, message):
    with pytest.raises(ConfigError, match=message):
        VisualizationHook(vis_kwargs_list=grid)


@pytest.mark.parametrize(
    'hook, message',
    [
        (dict(classes=[12]), 'class 12 is out of range, the model has 10'),
        (dict(vis_kwargs_list=dict(sample_model='ema')), 'no moving average'),
    ],
)
def test_what_the_model_cannot_draw_is_found_before_training(tiny_run, tmp_path, hook, message):
    cfg = tiny_run()
    cfg.custom_hooks = [dict(type='VisualizationHook', **hook)]
    with pytest.raises(ConfigError, match=message):
        train_from_config(cfg)
    assert not (tmp_path / 'run').exists()


def test_samples_reach_the_work_dir(tiny_run, tmp_path):
    cfg = tiny_run(max_iters=2)
    cfg.custom_hooks = [dict(type='VisualizationHook', interval=1, num_rows=2)]
    Runner.from_cfg(cfg).train()
    files = sorted((tmp_path / 'run' / 'samples').iterdir())
    assert [file.name for file in files] == ['fake_img_1.png', 'fake_img_2.png']
    assert Image.open(files[0]).size == (10 * 34 + 2, 2 * 34 + 2)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(model__num_classes=7), r'the data set has 10 classes, the model 7; set model\.num_classes=10'),
        (dict(train_dataloader__dataset__image_size=40), r'shape \(3, 40, 40\), the discriminator takes \(3, 32, 32\)'),
    ],
)
def test_data_that_does_not_fit_the_model(tiny_run, options, message):
    with pytest.raises(DataError, match=message):
        Runner.from_cfg(tiny_run(**options)).train()


def test_a_pipeline_without_packing(tiny_run):
    cfg = tiny_run()
    cfg.train_dataloader.dataset.pipeline = []
    with pytest.raises(DataError, match='PackInputs'):
        Runner.from_cfg(cfg).train()
