import pytest
import torch

from mmsagan.apis.train import allow_tf32
from mmsagan.evaluation.plan import exact_arithmetic


@pytest.fixture(autouse=True)
def flags_as_before():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize('allowed', [True, False])
def test_scores_are_computed_without_tf32_whatever_the_training_may(allowed):
    allow_tf32(allowed)

    def flags():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    assert flags() == (allowed, allowed)
    with pytest.raises(KeyError), exact_arithmetic():
        assert flags() == (False, False)
        raise KeyError
    assert flags() == (allowed, allowed)
