"""Each regularizer against its formula, and its gradient against finite differences in double precision."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapperDict
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.models import Regularizer
from mmsagan.models.layers import attention
from mmsagan.models.regularizers import DiscriminatorUpdate, Update
from mmsagan.registry import MODELS, OPTIM_WRAPPERS


class Roll(nn.Module):
    """An augmentation that moves images by a pixel."""

    def forward(self, images):
        return images.roll(1, dims=3)


class Constant(Regularizer):
    def __init__(self, value, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def generator_loss(self, update):
        return update.fake_logits.sum() * 0 + self.value

    discriminator_loss = generator_loss


BCR = dict(type='ConsistencyRegularization', augment=dict(type=Roll), fake_weight=0.5)
LABEL = torch.tensor([0, 2, 1])


@pytest.fixture
def build(gan_config):
    def run(**kwargs):
        torch.manual_seed(3)
        networks = dict(generator=dict(output_scale=8, channels_cfg=[1], attention_after_nth_block=1))
        networks['discriminator'] = dict(input_scale=8, channels_cfg=[1], downsample_cfg=[True])
        gan = MODELS.build(gan_config(**networks, **kwargs))
        gan.init_weights()
        for name, parameter in gan.named_parameters():
            parameter.data.fill_(0.5) if name.endswith('gamma') else None
        return gan.train()

    return run


@pytest.fixture
def observed(build, monkeypatch):
    """Makes an update of D in double precision, always of the same images and with the same singular vectors."""
    monkeypatch.setattr(torch.Tensor, 'float', lambda tensor: tensor)  # networks ask for float32
    monkeypatch.setattr(attention, 'FUSED_FROM', 0)  # fused attention has no second derivative
    gan, (real, fake) = build().double(), torch.rand(2, 3, 3, 8, 8, dtype=torch.float64) * 2 - 1
    gan.discriminator.eval()

    def run():
        torch.manual_seed(5)
        logits = [gan.discriminator(images, LABEL) for images in (real, fake)]
        return DiscriminatorUpdate(gan, 0, 0, 1, fake, LABEL, logits[1], real, LABEL, logits[0])

    return run


GRADIENTS = [dict(type='R1'), dict(type='GradientPenalty'), BCR]
GRADIENTS += [dict(type='OrthogonalRegularization', network='discriminator'), dict(type='LeCam', start_iter=-1)]


@pytest.mark.parametrize('config', GRADIENTS, ids=lambda config: config['type'])
def test_gradient(observed, config, step=1e-6):
    """The gradient of each parameter along a random direction is the central difference."""
    regularizer, parameters = MODELS.build(config), list(observed().gan.discriminator.parameters())

    def loss():
        return copy.deepcopy(regularizer).discriminator_loss(observed())  # a copy, since LeCam's anchors move

    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    assert sum(gradient is not None and bool(gradient.any()) for gradient in gradients) > 5
    for parameter, gradient in zip(parameters, gradients):
        direction, values = torch.randn_like(parameter), []
        for change in (step, -2 * step):
            parameter.data.add_(direction, alpha=change)
            values.append(loss().item())
        parameter.data.add_(direction, alpha=step)
        along = 0.0 if gradient is None else (gradient * direction).sum().item()
        assert along == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_r1_is_the_squared_norm_of_the_jacobian(observed):
    update, regularizer = observed(), MODELS.build(dict(type='R1', gamma=3))
    jacobian = torch.autograd.functional.jacobian(lambda x: update.gan.discriminator(x, LABEL)[:, 0], update.real)
    expected = sum((jacobian[i, i] ** 2).sum() for i in range(3)) / 3
    torch.testing.assert_close(1.5 * expected, regularizer.weight * regularizer.discriminator_loss(update))


def test_gradient_penalty_of_a_paraboloid():
    """The gradient of |x|^2 / 2 is x = e r for fake images at 0 and real ones of norm r: E(e r - 1)^2 = r^2 / 3 - r + 1."""
    real = nn.functional.normalize(torch.randn(20_000, 3, 2, 2).flatten(1), dim=1).view(-1, 3, 2, 2) * 3
    gan = SimpleNamespace(discriminate=lambda images, label: images.square().sum((1, 2, 3))[:, None] / 2)
    update = SimpleNamespace(gan=gan, real=real, fake=torch.zeros_like(real), real_label=None)
    loss = MODELS.build(dict(type='GradientPenalty')).discriminator_loss(update)
    assert abs(loss.item() - (3**2 / 3 - 3 + 1)) < 5 * 2 / 20_000**0.5  # five standard deviations; (e r - 1)^2 is in [0, 4]


def test_consistency_equals_its_formula(observed):
    update = observed()
    real, fake = [
        (update.gan.discriminator(x, LABEL) - update.gan.discriminator(torch.cat([x[..., -1:], x[..., :-1]], 3), LABEL)) ** 2
        for x in (update.real, update.fake)
    ]
    for weight in (0, 0.5):
        loss = MODELS.build(dict(BCR, fake_weight=weight)).discriminator_loss(update)
        torch.testing.assert_close(loss, real.mean() + weight * fake.mean())


@pytest.mark.parametrize('num_parts', [1, 2])
def test_lecam_follows_its_recursion(num_parts):
    regularizer = MODELS.build(dict(type='LeCam', decay=0.75, start_iter=1)).double()
    logits = torch.randn(6, 2, 4, 1, dtype=torch.float64)
    anchors = []
    for iteration, (real, fake) in enumerate(logits):
        losses, means = [], [real.mean().item(), fake.mean().item()]
        for part, (r, f) in enumerate(zip(real.chunk(num_parts), fake.chunk(num_parts))):
            counts = dict(iteration=iteration, part=part, num_parts=num_parts)
            losses.append(regularizer.discriminator_loss(SimpleNamespace(**counts, real_logits=r, fake_logits=f)))
        if iteration > 1:
            expected = ((real - anchors[1]) ** 2).mean() + ((fake - anchors[0]) ** 2).mean()
            torch.testing.assert_close(sum(losses) / num_parts, expected)
        else:
            assert losses == [None] * num_parts
        anchors = [0.75 * old + 0.25 * mean for old, mean in zip(anchors, means)] if iteration > 1 else means
        assert regularizer.anchors.tolist() == pytest.approx(anchors, rel=1e-12)


@pytest.mark.parametrize('iteration, k', [(0, 8), (99, 8), (100, 6), (299, 4), (300, 3), (10**6, 3)])
def test_top_k_trains_on_the_largest_logits(iteration, k):
    """Whole numbers below 8 * 0.75, 8 * 0.75^2, and 8 * 0.4."""
    regularizer = MODELS.build(dict(type='TopK', fraction=0.4, decay=0.75, decay_iters=100))
    logits = torch.randn(8, 1, dtype=torch.float64, requires_grad=True)
    gan = SimpleNamespace(gan_loss=MODELS.build(dict(type='NonSaturatingGANLoss')))

    def total(logits):
        return gan.gan_loss.generator_loss(logits) + regularizer.generator_loss(
            Update(gan, iteration, 0, 1, None, None, logits)
        )

    loss = total(logits)
    largest = sorted(logits.flatten().tolist())[-k:]
    assert loss.item() == pytest.approx(sum(math.log1p(math.exp(-logit)) for logit in largest) / k, rel=1e-12)
    loss.backward()
    assert sorted(logits[logits.grad != 0].tolist()) == largest
    assert torch.autograd.gradcheck(total, logits)


def test_orthogonal_regularization_of_tall_and_wide_weights():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 7), nn.Embedding(5, 6), nn.BatchNorm2d(4)).double()
    update = SimpleNamespace(gan=SimpleNamespace(generator=network))
    rows = [list(weight.detach()) for weight in (network[0].weight.reshape(4, 27), network[1].weight)]
    expected = sum(float(a @ b) ** 2 for each in rows for i, a in enumerate(each) for j, b in enumerate(each) if i != j)
    regularizer = MODELS.build(dict(type='OrthogonalRegularization'))
    assert regularizer.generator_loss(update).item() == pytest.approx(expected, rel=1e-10)
    assert regularizer.discriminator_loss(update) is None
    with pytest.raises(ConfigError, match='network'):
        MODELS.build(dict(type='OrthogonalRegularization', network='generator_ema'))


@pytest.mark.parametrize(
    'name, config, message',
    [
        ('real', dict(type='R1'), r'regularizers\.real: the log has'),
        ('loss', dict(type='HingeGANLoss'), r'regularizers\.loss: HingeGANLoss is not'),
        ('topk', dict(type='TopK', fraction=2), 'fraction.* 2'),
        ('lecam', dict(type='LeCam', decay=2), 'decay.* 2'),
        ('type', 'R1', r'regularizers\.type must be a dict'),
        ('r1', dict(gamma=1), r'regularizers\.r1 must be a dict\(type=...\)'),
    ],
)
def test_what_is_no_regularizer(build, name, config, message):
    with pytest.raises(ConfigError, match=message):
        build(regularizers={name: config})


# ------------------------------------------------------------------------------------------------------------ in a training

ALL = dict(r1=dict(type='R1', interval=2), lecam=dict(type='LeCam', start_iter=0), bcr=BCR)
ALL |= dict(topk=dict(type='TopK', decay=0.5, decay_iters=1), orthogonal=dict(type='OrthogonalRegularization'))


def optimizers(gan, kind='OptimWrapper', **kwargs) -> OptimWrapperDict:
    wrapper, wrappers = OPTIM_WRAPPERS.get(f'mmsagan.{kind}'), {}
    for name in ('generator', 'discriminator'):
        wrappers[name] = wrapper(optimizer=torch.optim.Adam(getattr(gan, name).parameters(), lr=1e-3), **kwargs)
    return OptimWrapperDict(**wrappers)


def batch():
    return dict(inputs=torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), labels=torch.arange(4) % 3)


def test_due_updates_have_the_missing_weight(build):
    """G is updated in every second iteration, of which every third has its loss."""
    one, two = dict(type=Constant, value=1, weight=5, interval=3), dict(type=Constant, value=2)
    gan = build(discriminator_steps=2, regularizers=dict(one=one, two=two, gone=None))
    wrappers = optimizers(gan)
    logs = [gan.train_step(batch(), wrappers) for _ in range(12)]
    assert [i for i, log in enumerate(logs, 1) if 'loss_disc_one' in log] == [1, 4, 7, 10]
    assert [i for i, log in enumerate(logs, 1) if 'loss_gen_one' in log] == [6, 12]
    parts = [logs[0][f'loss_disc_{name}'] for name in ('real', 'fake', 'one', 'two')]
    assert parts[2:] == [15, 2] and torch.allclose(logs[0]['loss_disc'], sum(parts))


def test_a_resumed_training_is_the_same(build):
    gan, other = build(regularizers=ALL), build(regularizers=ALL)
    wrappers, resumed = optimizers(gan), optimizers(other)
    for _ in range(3):
        logs = gan.train_step(batch(), wrappers)
    assert {f'loss_disc_{name}' for name in ('r1', 'lecam', 'bcr')} | {'loss_gen_topk', 'loss_gen_orthogonal'} <= logs.keys()
    other.load_state_dict(copy.deepcopy(gan.state_dict()))
    resumed.load_state_dict(copy.deepcopy(wrappers.state_dict()))
    for model, optim_wrapper in ((gan, wrappers), (other, resumed)):
        torch.manual_seed(7)
        for _ in range(2):
            model.train_step(batch(), optim_wrapper)
    state, expected = other.state_dict(), gan.state_dict()
    assert expected['regularizers.lecam.anchors'].all() and all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_penalty_that_is_nan_changes_nothing(build):
    gan = build(regularizers=dict(ALL, nan=dict(type=Constant, value=math.nan)))
    before, wrappers = copy.deepcopy(gan.state_dict()), optimizers(gan, accumulative_counts=2)
    gan.train_step(batch(), wrappers)
    assert [wrapper.skipped for wrapper in wrappers.values()] == [1, 1]
    assert [key for key, value in gan.state_dict().items() if not torch.equal(before[key], value)] == ['iteration']


@pytest.mark.parametrize('kind', ['BFloat16OptimWrapper', pytest.param('compiled', marks=pytest.mark.slow)])
def test_r1_is_the_same_in_lower_precision_and_compiled(build, kind):
    """Compiled functions have no second derivative."""
    data, losses = batch(), []
    for wrapper in ('OptimWrapper', kind):
        gan = build(regularizers=dict(r1=dict(type='R1')))
        if wrapper == 'compiled':
            gan.discriminator.compile(backend='aot_eager')
        wrappers, real = optimizers(gan, wrapper.replace('compiled', 'OptimWrapper')), gan.data_preprocessor(data)
        losses.append(gan.train_discriminator(real['inputs'], real['labels'], wrappers['discriminator'])['loss_disc_r1'])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
