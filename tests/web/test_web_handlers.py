import numpy as np
import pytest
import torch

from mmsagan.apis import attention_maps, init_model, sample
from mmsagan.apis.sampling import sample_inputs
from mmsagan.visualization.attention import overlay
from mmsagan.web.handlers import (
    attention_panels,
    enlarge,
    interpolation_frames,
    make_layout,
    sample_grid,
    side_by_side,
)


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


@pytest.mark.parametrize('count, size, per_class, shape', [(7, 32, None, (2, 4)), (10, 8, 1, (2, 5)), (33, 32, 11, (6, 6))])
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
    picture = enlarge(layout.draw(images), layout.scale)
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
