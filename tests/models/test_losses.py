import math

import numpy as np
import pytest
import torch

from mmsagan.models import AuxiliaryClassificationLoss
from mmsagan.registry import MODELS

REAL, FAKE = [2.0, -0.5, 0.25], [-3.0, 0.5, 1.0]


def mean(values):
    return sum(values) / len(values)


def log_sigmoid(x):
    return -math.log(1 + math.exp(-x))


EXPECTED = {
    # Equation 4 of the paper, term by term.
    'HingeGANLoss': (-mean([min(0, -1 + r) for r in REAL]), -mean([min(0, -1 - f) for f in FAKE]), -mean(FAKE)),
    'WassersteinGANLoss': (-mean(REAL), mean(FAKE), -mean(FAKE)),
    'NonSaturatingGANLoss': (
        -mean([log_sigmoid(r) for r in REAL]),
        -mean([log_sigmoid(-f) for f in FAKE]),
        -mean([log_sigmoid(f) for f in FAKE]),
    ),
    'LeastSquaresGANLoss': (mean([(r - 1) ** 2 for r in REAL]), mean([f**2 for f in FAKE]), mean([(f - 1) ** 2 for f in FAKE])),
}


@pytest.mark.parametrize('name', EXPECTED)
def test_loss_equals_its_formula(name):
    loss = MODELS.build(dict(type=name))
    real, fake = torch.tensor(REAL)[:, None], torch.tensor(FAKE)[:, None]
    values = (*loss.discriminator_loss(real, fake), loss.generator_loss(fake))
    assert [float(value) for value in values] == pytest.approx(list(EXPECTED[name]), rel=1e-6)


def test_hinge_gradient_stops_at_the_margin():
    loss = MODELS.build(dict(type='HingeGANLoss'))
    real, fake = torch.tensor([[2.0], [0.0]], requires_grad=True), torch.tensor([[-2.0], [0.0]], requires_grad=True)
    sum(loss.discriminator_loss(real, fake)).backward()
    assert real.grad.tolist() == [[0.0], [-0.5]] and fake.grad.tolist() == [[0.0], [0.5]]


@pytest.mark.parametrize('on_fake', [True, False])
def test_auxiliary_classification_equals_its_formula(on_fake):
    loss = AuxiliaryClassificationLoss(discriminator_weight=2, generator_weight=0.5, on_fake=on_fake)
    real, fake = torch.randn(2, 4, 3).double()
    real_label, fake_label = torch.tensor([[0, 1, 2, 2], [1, 1, 0, 2]])

    def mean_log_probability(logits, label):
        exponentials = np.exp(logits.numpy())
        return np.mean([np.log(row[c] / row.sum()) for row, c in zip(exponentials, label)])

    seen = [mean_log_probability(real, real_label), mean_log_probability(fake, fake_label)]
    expected = -2 * (sum(seen) if on_fake else seen[0])
    np.testing.assert_allclose(loss.discriminator_loss(real, real_label, fake, fake_label), expected)
    np.testing.assert_allclose(loss.generator_loss(fake, fake_label), -0.5 * seen[1])


def test_multi_hinge_equals_its_formula():
    loss = MODELS.build(dict(type='MultiHingeLoss', generator_weight=0.5))
    real, fake = 2 * torch.randn(2, 6, 3).double()
    real_label, fake_label = torch.tensor([[0, 1, 2, 2, 1, 0], [1, 1, 0, 2, 0, 2]])

    def mean_hinge(logits, label):
        others = [max(float(row[k]) for k in range(3) if k != c) for row, c in zip(logits, label)]
        return mean([max(0, 1 - float(row[c]) + other) for row, c, other in zip(logits, label, others)])

    real_hinge, fake_hinge = mean_hinge(real, real_label), mean_hinge(fake, fake_label)
    assert float(loss.discriminator_loss(real, real_label, fake, fake_label)) == pytest.approx(real_hinge + fake_hinge)
    assert float(loss.generator_loss(fake, fake_label)) == pytest.approx(0.5 * fake_hinge)
