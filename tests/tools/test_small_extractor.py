"""The tool that trains the package's small extractors."""

import pytest
import torch
from test_train_tool import run

from mmsagan.datasets import EmbeddedMNIST

pytestmark = pytest.mark.slow


def test_digits_are_learned_in_one_epoch(tmp_path):
    out = tmp_path / 'digits.pth'
    result = run('digits', '--epochs', 1, '--out', out, tool='tools/misc/train_small_extractor.py', OMP_NUM_THREADS='1')
    assert result.returncode == 0, result.stderr
    share, _, rest = result.stdout.partition('% of ')
    assert float(share) > 80 and rest.startswith(f'{len(EmbeddedMNIST(split="test"))} held-out images')
    assert all(torch.isfinite(value).all() for value in torch.load(out).values())
