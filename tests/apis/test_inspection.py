"""Training images that are near to samples."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist

from mmsagan.apis.inspection import nearest_images
from mmsagan.errors import ConfigError
from mmsagan.evaluation import DigitsExtractor, open_images

DIGITS = dict(inception_style='digits')


def write_images(folder, pixels):
    for number, image in enumerate(pixels):
        path = folder / 'ab'[number % 2] / f'{number:03d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def test_nearest_images(tmp_path):
    """By brute force, with a copy among them, and images that cannot be read."""
    pixels = np.random.RandomState(0).randint(256, size=(300, 8, 8, 3)).astype(np.uint8)
    write_images(tmp_path, pixels)
    for name in ('a/004.png', 'b/007.png'):
        (tmp_path / name).write_bytes(b'')
    order = [*range(0, 300, 2), *range(1, 300, 2)]
    images = torch.from_numpy(pixels[[9, 0, 4]]).permute(0, 3, 1, 2).contiguous()
    with pytest.warns(UserWarning, match='unreadable'):
        distances, numbers = nearest_images(images, open_images(tmp_path), 7, batch_size=32, **DIGITS)
    with torch.no_grad():
        everything = torch.from_numpy(pixels[order]).permute(0, 3, 1, 2)
        features = [DigitsExtractor().eval()(each)['features'].double().numpy() for each in (images, everything)]
    expected = cdist(*features)
    expected[:, [order.index(4), order.index(7)]] = np.inf
    np.testing.assert_array_equal(numbers, expected.argsort(1)[:, :7])
    np.testing.assert_allclose(distances, np.sort(expected, 1)[:, :7], atol=1e-4)
    assert distances[:2, 0].max() < 1e-5 < distances[2, 0], 'two copies'
    for others, k in ((images, 301), (images[..., :4], 5)):
        with pytest.raises(ConfigError):
            nearest_images(others, open_images(tmp_path), k, **DIGITS)
