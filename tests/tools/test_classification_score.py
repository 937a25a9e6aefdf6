"""The classification accuracy score: classifiers of images whose accuracy is known beforehand, and the tool."""

import re

import cas_classifiers as cas
import numpy as np
import pytest
import torch
from launching import ROOT

from mmsagan.datasets import EmbeddedMNIST
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError, DataError
from mmsagan.registry import MODELS

pytestmark = pytest.mark.slow
TINY = ['model.generator.base_channels=8', 'model.discriminator.base_channels=8']


def digits(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = EmbeddedMNIST(split=split)
    index = torch.randperm(len(dataset))[:count]
    return torch.from_numpy(dataset.images)[index].expand(-1, 3, -1, -1), torch.from_numpy(dataset.labels)[index]


def test_of_real_images_and_of_wrong_labels():
    (images, labels), test = digits('train', 600), digits('test', 300)
    right, shuffled = (
        cas.accuracies(cas.make_classifier('small', 10), (images, given), test, 10, epochs=4)
        for given in (labels, labels[torch.randperm(600)])
    )
    assert right[0] > 0.8 and shuffled[0] < 0.3, 'chance is 0.1'
    assert float(right[1:] @ test[1].bincount().float() / 300) == pytest.approx(float(right[0]), abs=1e-6)


def test_the_tool(run_here, tmp_path):
    """On samples of a generator that is not trained."""
    config = str(ROOT / 'configs' / 'sagan' / 'sagan_32_mnist_b32x1.py')
    options = dict(option.split('=') for option in TINY)
    model = MODELS.build(load_config(config, {key: int(value) for key, value in options.items()}).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    arguments = [config, tmp_path / 'model.pth', '--num-samples', 320, '--epochs', 6, '--device', 'cpu']
    code, out, err = run_here('misc/classification_score.py', *arguments, '--per-class', '--cfg-options', *TINY)
    assert code == 0, err
    rows = [[float(number) for number in re.findall(r'([\d.]+)%', line)] for line in out.splitlines()[-11:]]
    assert rows[0][0] < 30 and rows[0][1] > 60
    assert len(rows) == 11 and all(0 <= number <= 100 for row in rows for number in row)
    code, _, err = run_here('misc/classification_score.py', *arguments, '--classifier', 'timm:', '--cfg-options', *TINY)
    assert code == ConfigError.exit_code and '--classifier' in err
    np.savez(tmp_path / 'nine.npz', np.zeros((9, 32, 32, 3), np.uint8), np.arange(9))
    code, _, err = run_here('misc/classification_score.py', *arguments, '--test', tmp_path / 'nine.npz', '--cfg-options', *TINY)
    assert code == DataError.exit_code and "'8']" in err and "'9']" in err
