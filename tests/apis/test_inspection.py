"""Training images that are near to samples."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist

from mmsagan.apis.inspection import NearestImages, extract_features, power_spectrum
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
        distances, numbers = NearestImages(open_images(tmp_path), 7, batch_size=32, **DIGITS)(images)
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
            NearestImages(open_images(tmp_path), k, **DIGITS)(others)


def test_features(tmp_path):
    images = torch.randint(256, (70, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        expected = DigitsExtractor().eval()(images)['features']
    torch.testing.assert_close(extract_features(images, batch_size=32, **DIGITS), expected)


def test_power_spectrum():
    """Of one cosine wave, all power is at its frequency; of white noise, it is the variance everywhere; Parseval's theorem."""
    size, count = 16, 300
    x = np.arange(size)
    wave = np.rint(128 + 100 * np.cos(2 * np.pi * 3 * x / size))
    images = torch.from_numpy(np.broadcast_to(wave, (2, 3, size, size)).astype(np.uint8).copy())
    power, rings = power_spectrum(images)
    peaks = {tuple(place) for place in (power > 0.01 * power.max()).nonzero().tolist()}
    assert peaks == {(size // 2, size // 2 + 3), (size // 2, size // 2 - 3)} and rings.argmax() == 3
    noise = torch.randint(256, (count, 1, size, size), generator=torch.Generator().manual_seed(0)).byte().expand(-1, 3, -1, -1)
    power, rings = power_spectrum(noise)
    values = noise[:, 0].double().numpy() / 255
    assert power.sum().item() == pytest.approx(values.var(axis=(1, 2)).mean() * size**2)
    assert len(rings) == size // 2 + 1 and rings[0] < 1e-20
    np.testing.assert_allclose(rings[1:], values.var(), rtol=0.15)
    radius = np.rint(np.hypot(*np.meshgrid(x - size // 2, x - size // 2)))
    np.testing.assert_allclose(rings, [power.numpy()[radius == r].mean() for r in range(size // 2 + 1)])
    with pytest.raises(ConfigError):
        power_spectrum(noise[..., 1:])
