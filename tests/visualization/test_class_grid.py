import numpy as np
import pytest
import torch

from mmsagan.visualization import class_grid, image_grid


@pytest.mark.parametrize('size, drawn', [(32, 64), (40, 80), (128, 128)])
def test_images_at_the_right_in_whole_pixels(size, drawn):
    images = torch.randint(256, (6, 3, size, size), dtype=torch.uint8)
    picture = class_grid(images, ['cat', 'dog'])
    repeated = torch.from_numpy(np.kron(images.numpy(), np.ones((drawn // size,) * 2, np.uint8)))
    expected = image_grid(repeated, 3)
    assert picture.dtype == np.uint8 and picture.shape[0] == 2 * (drawn + 2) + 2
    assert np.array_equal(picture[:, -expected.shape[1] :], expected)


def test_names_and_notes_at_the_left():
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    plain = class_grid(images, ['a'] * 3)
    noted = class_grid(images, ['a', 'a $name_ that is long', ''], ['x 1.0', '', 'x 2.0'])
    assert noted.shape[1] > plain.shape[1], 'as wide as the longest text'
    text = noted[:, : noted.shape[1] - 68].min(axis=2) < 128
    rows = [text[1 + 66 * row : 1 + 66 * (row + 1)].any(axis=1) for row in range(3)]
    assert rows[0][:33].any() and rows[0][33:].any(), 'the name above the note'
    assert rows[1][33] and rows[2][33:].any() and not rows[2][:33].any()
    assert not text[:, :10].any() and not text[:, -10:].any(), 'a margin'
