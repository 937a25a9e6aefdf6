import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmsagan.errors import ConfigError
from mmsagan.evaluation.resizing import Resize

IMAGES = torch.randint(256, (5, 3, 32, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('size', [299, 16])
@pytest.mark.parametrize('method', ['bicubic', 'bilinear', 'nearest'])
def test_pillow_bit_for_bit(size, method):
    resized = Resize(size, method)(IMAGES)
    assert resized.shape == (5, 3, size, size) and resized.dtype == torch.uint8
    for image, result in zip(IMAGES, resized):
        expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling[method.upper()])
        np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_torch():
    expected = F.interpolate(IMAGES.float(), size=(50, 50), mode='bicubic', align_corners=False).round().clamp(0, 255)
    assert torch.equal(Resize(50, backend='torch')(IMAGES), expected.to(torch.uint8))
    assert Resize(50, 'nearest', 'torch')(IMAGES).shape == (5, 3, 50, 50)


@pytest.mark.parametrize(
    'arguments, message',
    [(('cubic', 'pillow'), 'method must be'), (('lanczos', 'torch'), 'with torch'), (('bicubic', 'opencv'), 'backend must be')],
)
def test_unknown_methods(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Resize(299, *arguments)
