# How tests/data/inception_v3 was made:
# - layout.txt: names and shapes in the state dict of fid_inception_v3() of pytorch-fid 0.3.0, on torchvision 0.29.2.
# - expected.npz, features and logits: that network's outputs, in evaluation mode, for recipe_weights() and recipe_images().
# - expected.npz, pytorch_fid_HxW: an image (1, 2, H, W) from RandomState(2).uniform(0, 1), resized to 299x299 by the
#   InceptionV3(resize_input=True, normalize_input=False) of pytorch-fid 0.3.0; only the rows and columns KEPT are stored.
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmsagan.evaluation.inception_v3 import InceptionV3, fold_batch_norms, resize_pytorch_fid

DATA = Path(__file__).parent.parent / 'data' / 'inception_v3'
KEPT = np.r_[0:299:9, 292:299]


def read_layout() -> dict[str, tuple[int, ...]]:
    lines = (line.split() for line in (DATA / 'layout.txt').read_text().splitlines())
    return {name: () if shape == 'scalar' else tuple(map(int, shape.split('x'))) for name, shape in lines}


def recipe_weights() -> dict[str, torch.Tensor]:
    """Random weights without num_batches_tracked, drawn in the order of the sorted names from numpy's frozen generator."""
    random = np.random.RandomState(0)
    weights = {}
    for name, shape in sorted(read_layout().items()):
        if name.endswith('num_batches_tracked'):
            continue
        if name.endswith('running_var'):
            values = random.uniform(0.5, 1.5, shape)
        elif name.endswith(('conv.weight', 'fc.weight')):
            values = random.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        else:
            values = 0.1 * random.standard_normal(shape) + name.endswith('bn.weight')
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def recipe_images() -> torch.Tensor:
    """Two images (2, 3, 299, 299) of 13x13 squares in random colours."""
    squares = np.random.RandomState(1).uniform(-1, 1, (2, 3, 13, 13))
    return torch.from_numpy(squares.repeat(23, 2).repeat(23, 3).astype(np.float32))


@pytest.fixture(scope='module')
def expected() -> dict[str, torch.Tensor]:
    with np.load(DATA / 'expected.npz') as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_layout_is_that_of_the_published_weights():
    assert {name: tuple(value.shape) for name, value in InceptionV3().state_dict().items()} == read_layout()


def test_features_and_logits_equal_pytorch_fids(expected):
    network = InceptionV3()
    network.load_state_dict(recipe_weights(), strict=True)
    for folded in (False, True):
        if folded:
            fold_batch_norms(network)
            assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
        features, logits, _ = network(recipe_images())
        torch.testing.assert_close(features, expected['features'], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, expected['logits'], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('height, width', [(7, 5), (32, 32), (400, 331)])
def test_the_resize_equals_the_reference(expected, height, width):
    images = np.random.RandomState(2).uniform(0, 1, (1, 2, height, width)).astype(np.float32)
    resized = resize_pytorch_fid(torch.from_numpy(images))
    assert resized.shape == (1, 2, 299, 299)
    torch.testing.assert_close(resized[:, :, KEPT][..., KEPT], expected[f'pytorch_fid_{height}x{width}'], rtol=0, atol=1e-5)
