import numpy as np
import pytest
import torch

from mmsagan.web.pictures import GridLayout, choose_layout, enlarge, panel, side_by_side


@pytest.mark.parametrize(
    'count, columns, size, per_group',
    [
        (16, 4, 32, None),
        (5, 3, 32, None),
        (1, 1, 32, None),
        (7, 4, 128, None),
        (100, 10, 8, None),
        (32, 8, 32, 16),
        (33, 6, 32, 11),
    ],
)
def test_every_place_is_located_as_it_is_drawn(count, columns, size, per_group):
    """Each image's colours say which image and which pixel it is; the padding is white."""
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    images[:, 0] = torch.arange(count, dtype=torch.uint8)[:, None, None]
    images[:, 1] = torch.arange(size, dtype=torch.uint8)
    images[:, 2] = torch.arange(size, dtype=torch.uint8)[:, None]
    layout = GridLayout(count, columns, size, per_group)
    picture = layout.enlarge(layout.draw(images))
    assert max(picture.shape) >= 1000
    random = np.random.RandomState(0)
    places = np.stack([random.uniform(0, length, 3000) for length in (picture.shape[1], picture.shape[0])], 1)
    located = 0
    for x, y in places:
        colour = tuple(int(value) for value in picture[int(y), int(x)])
        assert layout.locate(x, y) == (None if colour == (255, 255, 255) else colour)
        located += colour != (255, 255, 255)
    assert located > 1000
    height, width = picture.shape[:2]
    for outside in [(-1, 5), (5, -1), (width + 5, 5), (5, height + 5), (1e9, 1e9), (-1e9, 9)]:
        assert layout.locate(*outside) is None


@pytest.mark.parametrize('count, columns', [(1, 1), (2, 2), (8, 4), (9, 3), (10, 5), (12, 4), (16, 4), (100, 10)])
def test_columns_of_a_plain_grid(count, columns):
    assert choose_layout(count, 8) == GridLayout(count, columns, 8)


@pytest.mark.parametrize(
    'per_class, columns, rows', [(2, 2, 1), (7, 7, 1), (8, 8, 1), (9, 5, 2), (11, 6, 2), (16, 8, 2), (24, 8, 3)]
)
def test_every_class_begins_on_a_new_row(per_class, columns, rows):
    layout = choose_layout(3 * per_class, 8, per_class)
    assert (layout.columns, layout.rows_per_group) == (columns, rows)
    images = torch.zeros(3 * per_class, 3, 8, 8, dtype=torch.uint8)
    images[:] = torch.arange(3).repeat_interleave(per_class)[:, None, None, None]
    small = layout.draw(images)
    assert small.shape == (3 * rows * 10 + 2, columns * 10 + 2, 3)
    assert small[2 :: 10 * rows, 2, 0].tolist()[:3] == [0, 1, 2]


def test_one_of_each_class():
    assert choose_layout(10, 8, 1) == choose_layout(10, 8)


def test_the_query_is_ringed_and_the_rest_is_as_it_was():
    image = np.random.RandomState(0).randint(0, 200, (32, 32, 3)).astype(np.uint8)
    drawn, plain = panel(image, 5, 20), enlarge(image, 14)
    assert drawn.shape == plain.shape == (448, 448, 3)
    changed = (drawn != plain).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.min() < 20 * 14 and rows.max() >= 21 * 14 and columns.min() < 5 * 14 and columns.max() >= 6 * 14
    assert rows.mean() == pytest.approx(20.5 * 14, abs=1) and columns.mean() == pytest.approx(5.5 * 14, abs=1)
    assert not changed[20 * 14 : 21 * 14, 5 * 14 : 6 * 14].any(), 'the pixel itself'
    assert np.ptp(rows) < 3 * 14 and np.ptp(columns) < 3 * 14
    for corner in [(0, 0), (31, 31)]:
        assert panel(image, *corner).shape == drawn.shape


def test_pictures_of_different_heights_side_by_side():
    both = side_by_side(np.zeros((4, 6, 3), np.uint8), np.full((9, 5, 3), 7, np.uint8))
    assert both.shape == (9, 6 + 8 + 5, 3)
    assert (both[:4, :6] == 0).all() and (both[4:, :6] == 255).all() and (both[:, -5:] == 7).all()
