import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from mmsagan.visualization import attention_figure
from mmsagan.visualization.attention import QUERY_COLOURS, overlay

# Where a cell's image begins, and the distance between cells, for images that are drawn 192 pixels high.
LEFT, TOP, ACROSS, DOWN = 28, 28, 200, 212


@pytest.fixture
def example():
    """Two images, two queries each, and maps that point to one key each."""
    images = torch.randint(30, 220, (2, 3, 32, 32), dtype=torch.uint8)
    queries = torch.tensor([[[4, 20], [30, 3]], [[16, 16], [2, 29]]])
    maps = torch.full((2, 2, 32, 32), 1e-5)
    maps[0, 0, 4:8, 24:28] = maps[0, 1, 24:28, 0:4] = maps[1, 0, 16:20, 16:20] = maps[1, 1, 0:4, 16:20] = 1
    return images, queries, maps / maps.sum((2, 3), keepdim=True)


def cell(figure: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = TOP + row * DOWN, LEFT + column * ACROSS
    return figure[top : top + 192, left : left + 192]


def colour_at(figure: np.ndarray, row: int, column: int, x: int, y: int) -> np.ndarray:
    """The colour at the middle of a pixel of the 32x32 image."""
    return cell(figure, row, column)[6 * y + 3, 6 * x + 3]


def number_of_pixels(picture: np.ndarray, colour: str) -> int:
    return int((np.abs(picture / 255 - to_rgb(colour)).max(axis=2) < 0.02).sum())


def test_rows_are_samples_and_columns_are_queries(example):
    figure = attention_figure(example[0], example[1], {'feat16': example[2]}, ['cat', 'dog'])
    assert figure.dtype == np.uint8 and figure.shape == (TOP + 2 * DOWN, LEFT + 3 * ACROSS, 3)
    assert (figure[:TOP, LEFT:] < 128).any() and (figure[TOP:, :LEFT] < 128).any(), 'titles and names'


def test_the_image_keeps_its_pixels_and_gets_a_dot_a_query(example):
    images, queries, maps = example
    figure = attention_figure(images, queries, {'feat16': maps})
    for row in range(2):
        enlarged = images[row].permute(1, 2, 0).repeat_interleave(6, 0).repeat_interleave(6, 1).numpy()
        differs = (cell(figure, row, 0) != enlarged).any(axis=2)
        y, x = np.nonzero(differs)
        centres = queries[row].numpy() * 6 + 3
        nearest = np.hypot(x[:, None] - centres[:, 0], y[:, None] - centres[:, 1]).min(axis=1)
        assert 0 < differs.sum() and nearest.max() < 9, 'nothing but the dots is drawn over the image'
        for number, point in enumerate(queries[row].tolist()):
            np.testing.assert_allclose(colour_at(figure, row, 0, *point) / 255, to_rgb(QUERY_COLOURS[number]), atol=0.01)


def test_maps_have_the_query_and_an_arrow_to_the_region(example):
    images, queries, maps = example
    figure = attention_figure(images, queries, {'feat16': maps})
    for row, column, has_arrow in ((0, 1, True), (0, 2, True), (1, 1, False), (1, 2, True)):
        colour = QUERY_COLOURS[column - 1]
        picture = cell(figure, row, column)
        np.testing.assert_allclose(
            colour_at(figure, row, column, *queries[row, column - 1].tolist()) / 255, to_rgb(colour), atol=0.01
        )
        assert (number_of_pixels(picture, colour) > 150) == has_arrow, 'no arrow to where the query is itself'
        assert number_of_pixels(picture, QUERY_COLOURS[2 - column]) == 0, "nothing of the other query's"
    # The arrow of the first sample's first query goes from (4, 20) to the key at (24..27, 4..7), and passes the middle.
    y, x = np.nonzero(np.abs(cell(figure, 0, 1) / 255 - to_rgb(QUERY_COLOURS[0])).max(axis=2) < 0.02)
    assert x.max() in range(144, 168) and y.min() in range(24, 48)


def test_overlay_at_both_ends():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    attention = np.zeros((4, 4))
    attention[2, 1] = 1
    picture = overlay(image, attention)
    grey = image.mean(axis=2) / 255
    np.testing.assert_allclose(picture[0, 0], 0.6 * grey[0, 0])
    np.testing.assert_allclose(picture[2, 1], 0.15 * grey[2, 1] + 0.75 * np.array(colormaps['viridis'](1.0)[:3]))


def test_a_row_for_each_layer_and_large_images_as_they_are():
    images = torch.zeros(2, 3, 256, 256, dtype=torch.uint8)
    even = torch.full((2, 1, 256, 256), 1 / 256**2)
    figure = attention_figure(images, torch.zeros(2, 1, 2, dtype=torch.long), {'feat32': even, 'feat64': even}, ['$a_', 'b'])
    assert figure.shape == (28 + 4 * (256 + 20), 28 + 2 * (256 + 8), 3)
