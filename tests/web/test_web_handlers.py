import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis import attention_maps, sample
from mmsagan.apis.sampling import sample_inputs
from mmsagan.errors import ConfigError
from mmsagan.visualization.attention import overlay
from mmsagan.web.checkpoints import Checkpoints
from mmsagan.web.handlers import (
    attention_of,
    compare_grids,
    describe_model,
    film,
    frames_between,
    picture_name,
    salient_pixel,
    sample_grid,
)
from mmsagan.web.requests import Look, SampleRequest


@pytest.fixture(scope='module')
def checkpoints(experiment):
    return Checkpoints(experiment.config, experiment.checkpoint)


@pytest.fixture(scope='module')
def model(checkpoints):
    return checkpoints.model()


@pytest.fixture(scope='module')
def plain_model(plain_experiment):
    return Checkpoints(plain_experiment.config, plain_experiment.checkpoint).model()


def nearly_equal(images, others) -> bool:
    """Equal but for the rounding of floats that differ in the last bits, in other batches."""
    return bool((images.int() - others.int()).abs().max() <= 1)


@pytest.mark.parametrize('look', [Look(), Look(0.4), Look(None, 'orig')])
def test_the_samples_are_those_of_sample(model, look):
    options = dict(seed=3, truncation=look.truncation, sample_model=look.sample_model)
    grid = sample_grid(model, SampleRequest((), 6, 3), look)
    assert torch.equal(grid.images, sample(model, 6, **options)) and grid.layout.columns == 3
    grid = sample_grid(model, SampleRequest((8, 1), 3, 3), look)
    assert torch.equal(grid.images, sample(model, labels=[8, 8, 8, 1, 1, 1], **options)) and grid.layout.columns == 3
    assert grid.draw().shape == (70, 104, 3)


def test_without_classes(plain_model):
    grid = sample_grid(plain_model, SampleRequest((), 4, 1), Look())
    assert grid.label is None and torch.equal(grid.images, sample(plain_model, 4, seed=1))
    with pytest.raises(ConfigError, match='no attention layer'):
        attention_of(plain_model, grid, 0, 3, 3)
    assert frames_between(plain_model, (0, 1), None, Look()).shape == (16, 3, 32, 32)


@pytest.mark.parametrize('look', [Look(), Look(0.4, 'orig')])
def test_attention_of_a_pixel_of_an_image(model, look):
    grid = sample_grid(model, SampleRequest((8, 1), 3, 3), look)
    found = attention_of(model, grid, 4, 21, 7)
    reference = attention_maps(
        model,
        [(21, 7)],
        labels=[8, 8, 8, 1, 1, 1],
        seed=3,
        truncation=look.truncation,
        sample_model=look.sample_model,
    )
    assert list(found.layers) == list(found.peaks) == ['feat8', 'feat16']
    image = reference.images[4].permute(1, 2, 0).numpy()
    covered = {
        layer: np.rint(255 * overlay(image, (maps[4, 0] / maps[4, 0].max()).numpy())) for layer, maps in reference.maps.items()
    }
    scale = 14
    for name, picture in [('image', found.image), *found.layers.items()]:
        expected = image if name == 'image' else covered[name]
        difference = np.abs(picture[scale // 2 :: scale, scale // 2 :: scale].astype(int) - expected)
        difference[5:10, 19:24] = 0  # around the query, where the ring is
        assert difference.max() <= 1, name
        assert np.abs(picture[7 * scale + 7, 21 * scale + 7].astype(int) - expected[7, 21]).max() <= 1, 'within the ring'
        assert (picture[7 * scale + 7, 21 * scale - 2] == (230, 25, 75)).all(), 'the ring'
    for layer, maps in reference.maps.items():
        assert found.peaks[layer] == pytest.approx(float(maps[4, 0].max() * 32 * 32), rel=1e-4)
    assert 0 <= min(salient_pixel(grid)) <= max(salient_pixel(grid)) < 32


@pytest.mark.parametrize('seeds, classes', [((0, 5), (2, 2)), ((5, 5), (2, 9)), ((5, 0), (9, 2))])
def test_the_way_between_two_samples(model, seeds, classes):
    look = Look(0.7)
    frames = frames_between(model, seeds, classes, look, 5)
    assert frames.shape == (5, 3, 32, 32)
    for frame, seed, label in zip((frames[0], frames[-1]), seeds, classes):
        noise = sample_inputs(model, seed).noise(0, 1)
        assert nearly_equal(frame, sample(model, noise=noise, labels=[label], truncation=0.7)[0])
    assert not any(torch.equal(frame, following) for frame, following in zip(frames, frames[1:]))


def test_no_way_between_a_sample_and_itself(model):
    with pytest.raises(ConfigError, match='both ends are the same image'):
        frames_between(model, (3, 3), (1, 1), Look())


def test_both_models_get_the_same_noise_and_classes(checkpoints, model):
    other = checkpoints.model('iter_10.pth')
    for request in (SampleRequest((), 5, 2), SampleRequest((4,), 5, 2)):
        grids = compare_grids(model, other, request, Look(0.5), Look(0.5, 'orig'))
        expected = sample(model, 5, labels=request.labels, seed=2, truncation=0.5)
        assert torch.equal(grids[0].images, expected)
        labels = grids[0].label
        assert torch.equal(grids[1].images, sample(other, labels=labels, seed=2, truncation=0.5, sample_model='orig'))
        assert request.classes == () or labels.tolist() == [4] * 5


def test_models_that_cannot_be_compared(model, plain_model):
    with pytest.raises(ConfigError, match='a number of classes of 10 and the second one 0'):
        compare_grids(model, plain_model, SampleRequest((), 5, 2), Look(), Look())


def test_the_film_has_all_frames_below_each_other():
    frames = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    kind, _, data = film(frames).partition(',')
    strip = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
    assert kind == 'data:image/png;base64'
    np.testing.assert_array_equal(strip.reshape(4, 8, 8, 3), frames.permute(0, 2, 3, 1))


def test_names_of_downloads():
    assert picture_name('iter_900.pth', 'seed5') == 'iter_900_seed5.png'
    assert picture_name('model=G-best-weights-step=100.pth', 'seed1-2') == 'model=G-best-weights-step=100_seed1-2.png'
    assert picture_name('../run 2/iter_9.pth') == '_run_2_iter_9.png'


def test_what_the_model_is(model, plain_model):
    assert describe_model(model, 'configs/small.py', 'iter_20.pth', ['feat8', 'feat16']) == [
        'small',
        'iter_20.pth',
        'iteration 20',
        '32 × 32 pixels',
        '10 classes',
        'attention at feat8, feat16',
        'cpu',
    ]
    assert describe_model(plain_model, 'small', 'a.pth', [])[-3:] == ['no classes', 'no attention', 'cpu']
