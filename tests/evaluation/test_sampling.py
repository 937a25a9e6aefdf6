import numpy as np
import pytest
import torch

from mmsagan.evaluation import SampleInputs
from mmsagan.evaluation.sampling import with_standing_statistics
from mmsagan.registry import MODELS


def test_a_sample_does_not_depend_on_its_batch():
    inputs = SampleInputs(noise_size=7, num_classes=5, seed=3)
    whole_noise, whole_label = inputs.draw(0, 300)
    for start, stop in ((0, 1), (63, 65), (100, 299), (299, 300), (64, 128), (5, 5)):
        noise, label = inputs.draw(start, stop)
        assert torch.equal(noise, whole_noise[start:stop]) and torch.equal(label, whole_label[start:stop])
    assert whole_noise.dtype == torch.float32 and whole_label.dtype == torch.int64


def test_frozen_numbers():
    """From numpy's RandomState, whose stream never changes; an evaluation from years ago can be repeated."""
    noise, label = SampleInputs(noise_size=2, num_classes=10, seed=0).draw(0, 3)
    expected = [[-1.831308, -0.177354], [0.038279, -0.402952], [0.002051, -0.094327]]
    np.testing.assert_allclose(noise, expected, atol=1e-6)
    assert label.tolist() == [2, 2, 1]
    noise, label = SampleInputs(noise_size=2, num_classes=10, seed=0).draw(1000, 1001)
    np.testing.assert_allclose(noise, [[-0.12112, -2.882142]], atol=1e-6)
    assert label.tolist() == [3]


def test_distribution_seeds_and_classes():
    inputs = SampleInputs(noise_size=10, num_classes=4, seed=0)
    noise, label = inputs.draw(0, 10000)
    assert abs(noise.mean()) < 0.01 and noise.std() == pytest.approx(1, abs=0.01)
    assert (torch.bincount(label).float() / 10000).tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert len(torch.unique(noise[:, 0])) > 9990
    assert not torch.equal(SampleInputs(10, 4, seed=1).noise(0, 5), inputs.noise(0, 5))
    assert torch.equal(SampleInputs(10, 0, seed=0).noise(0, 5), inputs.noise(0, 5)), 'labels have a stream of their own'
    assert SampleInputs(10).draw(0, 5)[1] is None


def test_standing_statistics(gan_config):
    """They equal the mean of the batches' own statistics, layer by layer, and change nothing else."""
    generator = MODELS.build(gan_config()).generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    inputs = SampleInputs(16, 3, seed=9)
    norms = [m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    seen = []
    handle = norms[0].register_forward_hook(lambda module, args, output: seen.append(args[0].detach()))
    result = with_standing_statistics(generator, inputs, steps=3, batch_size=8)
    handle.remove()
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in seen]).mean(0)
    assert len(seen) == 3
    torch.testing.assert_close(norms[0].running_mean, means)
    torch.testing.assert_close(norms[0].running_var, variances)
    assert not any(module.training for module in result.modules())
    for name, value in generator.state_dict().items():
        if 'running' not in name and 'num_batches' not in name:
            assert torch.equal(value, before[name]), name
    assert sum(not torch.equal(generator.state_dict()[name], before[name]) for name in before if 'running' in name) == 2 * len(
        norms
    )
