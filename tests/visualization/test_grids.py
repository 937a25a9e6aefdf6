import numpy as np
import torch

from mmsagan.visualization import image_grid


def test_every_image_stands_in_its_cell():
    images = torch.randint(0, 255, (5, 3, 4, 6), dtype=torch.uint8)
    grid = image_grid(images, columns=3, padding=1)
    assert grid.shape == (11, 22, 3) and grid.dtype == np.uint8
    for index in range(5):
        top, left = 1 + index // 3 * 5, 1 + index % 3 * 7
        assert np.array_equal(grid[top : top + 4, left : left + 6], images[index].numpy().transpose(1, 2, 0))
    assert (grid[0] == 255).all() and (grid[6:10, 15:21] == 255).all()
