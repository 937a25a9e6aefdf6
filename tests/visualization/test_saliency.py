import pytest
import torch

from mmsagan.errors import ConfigError
from mmsagan.visualization import salient_queries
from mmsagan.visualization.saliency import attended_regions


def noise_at(*corners: tuple[int, int], size: int = 6) -> torch.Tensor:
    """A grey image (3, 32, 32) with squares of coloured noise at these upper left corners (x, y)."""
    image = torch.full((3, 32, 32), 90, dtype=torch.uint8)
    for x, y in corners:
        image[:, y : y + size, x : x + size] = torch.randint(256, (3, size, size), dtype=torch.uint8)
    return image


def bumps(*heights_at: tuple[float, int, int]) -> torch.Tensor:
    """A map (32, 32) of 4x4 keys a height each, over a low level, summing to 1."""
    attention = torch.full((32, 32), 0.01)
    for height, x, y in heights_at:
        attention[y : y + 4, x : x + 4] = height
    return attention / attention.sum()


def inside(point, x: int, y: int, size: int) -> bool:
    return x - 1 <= point[0] <= x + size and y - 1 <= point[1] <= y + size


def test_queries_stand_where_colours_change_and_lie_apart():
    corners = [(3, 22), (22, 4)]
    queries = salient_queries(torch.stack([noise_at(*corners)]), 2)
    assert queries.shape == (1, 2, 2) and queries.dtype == torch.int64
    found = {corner for corner in corners for point in queries[0].tolist() if inside(point, *corner, 6)}
    assert found == set(corners), 'one in each square, and not both in the same'


def test_an_image_has_the_same_queries_in_any_company():
    images = torch.stack([noise_at((3, 3)), noise_at((20, 20), (8, 1)), noise_at()])
    together = salient_queries(images, 4)
    assert torch.equal(together, salient_queries(images, 4))
    for image, queries in zip(images, together):
        assert torch.equal(salient_queries(image[None], 4)[0], queries)
        assert len({tuple(point) for point in queries.tolist()}) == 4


def test_a_plain_image_gets_queries_far_apart():
    points = salient_queries(torch.full((1, 3, 32, 32), 7, dtype=torch.uint8), 4)[0].double()
    assert torch.pdist(points).min() > 16


@pytest.mark.parametrize('count', [0, 1025])
def test_a_number_of_queries_that_makes_no_sense(count):
    with pytest.raises(ConfigError, match=f'from 1 to 1024, the pixels of an image, got {count}'):
        salient_queries(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), count)


def test_regions_are_the_peaks_with_the_highest_first():
    regions = attended_regions(bumps((0.7, 4, 24), (1.0, 20, 8), (0.3, 12, 4))).tolist()
    assert len(regions) == 2, 'the third is too low'
    assert inside(regions[0], 20, 8, 4) and inside(regions[1], 4, 24, 4)


def test_no_more_regions_than_wanted():
    attention = bumps((1.0, 4, 4), (0.9, 24, 4), (0.8, 4, 24), (0.7, 24, 24))
    assert len(attended_regions(attention)) == 3 and len(attended_regions(attention, most=1)) == 1


@pytest.mark.parametrize('value', [1 / 1024, float('nan')])
def test_even_attention_points_nowhere(value):
    assert attended_regions(torch.full((32, 32), value)).shape == (0, 2)
