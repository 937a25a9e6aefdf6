"""Image grids, class grids, attention figures and the points that they show."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from mmsagan.errors import ConfigError
from mmsagan.visualization import attention_figure, class_grid, curves_figure, image_grid, salient_queries
from mmsagan.visualization.attention import QUERY_COLOURS, overlay
from mmsagan.visualization.figures import to_array

# Where the image of a cell begins, and the distance between cells, for images that are drawn 192 pixels high.
LEFT, TOP, ACROSS, DOWN = 28, 28, 200, 212


def test_every_image_is_in_its_cell():
    images = torch.randint(0, 255, (5, 3, 4, 6), dtype=torch.uint8)
    grid = image_grid(images, columns=3, padding=1)
    assert grid.shape == (11, 22, 3) and grid.dtype == np.uint8
    for index in range(5):
        top, left = 1 + index // 3 * 5, 1 + index % 3 * 7
        assert np.array_equal(grid[top : top + 4, left : left + 6], images[index].numpy().transpose(1, 2, 0))
    assert (grid[0] == 255).all() and (grid[6:10, 15:21] == 255).all()


def test_class_grid_has_images_at_the_right_and_names_at_the_left():
    images = torch.randint(256, (6, 3, 40, 40), dtype=torch.uint8)
    picture = class_grid(images, ['cat', 'a long $name_'], ['x 1.0', ''])
    enlarged = torch.from_numpy(np.kron(images.numpy(), np.ones((2, 2), np.uint8)))
    expected = image_grid(enlarged, 3)
    assert np.array_equal(picture[:, -expected.shape[1] :], expected)
    text = picture[:, : -expected.shape[1]].min(axis=2) < 128
    height = 82
    rows = [text[1 + height * row : 1 + height * (row + 1)].any(axis=1) for row in range(2)]
    assert rows[0][: height // 2].any() and rows[0][height // 2 :].any() and rows[1][height // 2], 'a name above its note'
    assert not text[:, :10].any() and not text[:, -10:].any(), 'a margin'


@pytest.mark.parametrize('escaped', ['c\\udce9t', 'a$b$', 'x_1^'])
def test_names_of_folders_that_are_not_utf8_or_look_like_formulas(escaped):
    """Are drawn as they are, or as Python escapes them."""
    name = escaped.replace('\\udce9', '\udce9')
    images = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    np.testing.assert_array_equal(class_grid(images, [name]), class_grid(images, [escaped]))
    pictures = []
    for text in (name, escaped):
        pictures.append(
            attention_figure(images, torch.tensor([[[1, 2]]]), {'feat8': torch.full((1, 1, 32, 32), 1 / 1024)}, [text])
        )
        pictures.append(to_array(curves_figure({'loss': {text: (np.arange(3), np.arange(3.0))}})))
    for one, other in zip(pictures[:2], pictures[2:]):
        np.testing.assert_array_equal(one, other)


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


def of_colour(picture: np.ndarray, colour: str) -> np.ndarray:
    return np.abs(picture / 255 - to_rgb(colour)).max(axis=2) < 0.02


def test_attention_figure_has_the_image_with_a_dot_per_query(example):
    images, queries, maps = example
    assert attention_figure(images, queries, {'feat16': maps, 'feat32': maps}).shape == (TOP + 4 * DOWN, LEFT + 3 * ACROSS, 3)
    figure = attention_figure(images, queries, {'feat16': maps}, ['$cat_', 'dog'])
    assert figure.dtype == np.uint8 and figure.shape == (TOP + 2 * DOWN, LEFT + 3 * ACROSS, 3)
    assert (figure[:TOP, LEFT:] < 128).any() and (figure[TOP:, :LEFT] < 128).any(), 'titles and names'
    for row in range(2):
        enlarged = images[row].permute(1, 2, 0).repeat_interleave(6, 0).repeat_interleave(6, 1).numpy()
        y, x = np.nonzero((cell(figure, row, 0) != enlarged).any(axis=2))
        centres = queries[row].numpy() * 6 + 3
        nearest = np.hypot(x[:, None] - centres[:, 0], y[:, None] - centres[:, 1]).min(axis=1)
        assert len(x) and nearest.max() < 9, 'nothing but the dots is drawn over the image'
        for (x, y), colour in zip(centres, QUERY_COLOURS):
            assert of_colour(cell(figure, row, 0), colour)[y, x]


def test_attention_maps_have_the_query_and_an_arrow_to_the_region(example):
    images, queries, maps = example
    figure = attention_figure(images, queries, {'feat16': maps})
    for row, column, has_arrow in ((0, 1, True), (0, 2, True), (1, 1, False), (1, 2, True)):
        colour, picture = QUERY_COLOURS[column - 1], cell(figure, row, column)
        x, y = queries[row, column - 1].tolist()
        assert of_colour(picture, colour)[6 * y + 3, 6 * x + 3]
        assert (of_colour(picture, colour).sum() > 150) == has_arrow, 'no arrow where the query attends to itself'
        assert not of_colour(picture, QUERY_COLOURS[2 - column]).any(), "nothing of the other query's"
    # The arrow of the first sample's first query leads from (4, 20) to the key at (24..27, 4..7).
    y, x = np.nonzero(of_colour(cell(figure, 0, 1), QUERY_COLOURS[0]))
    assert x.max() in range(144, 168) and y.min() in range(24, 48)


def test_overlay_at_both_ends():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    attention = np.zeros((4, 4))
    attention[2, 1] = 1
    picture, grey = overlay(image, attention), image.mean(axis=2) / 255
    np.testing.assert_allclose(picture[0, 0], 0.6 * grey[0, 0])
    np.testing.assert_allclose(picture[2, 1], 0.15 * grey[2, 1] + 0.75 * np.array(colormaps['viridis'](1.0)[:3]))


def noise_at(*corners: tuple[int, int]) -> torch.Tensor:
    """A grey image (3, 32, 32) with 6x6 squares of coloured noise at these upper left corners (x, y)."""
    image = torch.full((3, 32, 32), 90, dtype=torch.uint8)
    for x, y in corners:
        image[:, y : y + 6, x : x + 6] = torch.randint(256, (3, 6, 6), dtype=torch.uint8)
    return image


def is_inside(point, x: int, y: int, size: int) -> bool:
    return x - 1 <= point[0] <= x + size and y - 1 <= point[1] <= y + size


def test_queries_are_where_colours_change_and_apart():
    corners = [(3, 22), (22, 4)]
    images = torch.stack([noise_at(*corners), noise_at((20, 20), (8, 1)), noise_at()])
    queries = salient_queries(images, 4)
    assert queries.shape == (3, 4, 2) and queries.dtype == torch.int64
    assert {corner for corner in corners for point in queries[0, :2].tolist() if is_inside(point, *corner, 6)} == set(corners)
    for image, found in zip(images, queries):
        assert torch.equal(salient_queries(image[None], 4)[0], found), 'whatever the other images'
    assert torch.pdist(queries[2].double()).min() > 16, 'in a plain image, too'
    with pytest.raises(ConfigError, match='1025'):
        salient_queries(images, 1025)
