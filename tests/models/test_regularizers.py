"""Each regularizer against its formula, and its gradient against finite differences in double precision."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapperDict
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN, Regularizer
from mmsagan.models.layers import attention
from mmsagan.models.regularizers import DiscriminatorUpdate, Update
from mmsagan.registry import MODELS, OPTIM_WRAPPERS

LABEL = torch.tensor([0, 2, 1])


class Roll(nn.Module):
    """An augmentation that moves images by a pixel."""

    def forward(self, images):
        return images.roll(1, dims=3)


class NotANumber(Regularizer):
    def discriminator_loss(self, update):
        return update.real_logits.sum() * math.nan

    def generator_loss(self, update):
        return update.fake_logits.sum() * math.nan


class One(Regularizer):
    def discriminator_loss(self, update):
        return update.real_logits.new_ones(())

    def generator_loss(self, update):
        return update.fake_logits.new_ones(())


@pytest.fixture
def build(gan_config):
    def run(**kwargs) -> ConditionalGAN:
        generator = dict(output_scale=8, channels_cfg=[1], attention_after_nth_block=1)
        discriminator = dict(input_scale=8, channels_cfg=[1], downsample_cfg=[True])
        torch.manual_seed(3)
        gan = MODELS.build(gan_config(generator=generator, discriminator=discriminator, **kwargs))
        gan.init_weights()
        for name, parameter in gan.named_parameters():
            if name.endswith('gamma'):
                nn.init.constant_(parameter, 0.5)
        return gan.train()

    return run


@pytest.fixture
def build_double(build, monkeypatch):
    """A GAN in double precision, whose D does not change its singular vectors; its networks otherwise ask for float32."""
    monkeypatch.setattr(torch.Tensor, 'float', lambda tensor: tensor)
    # Fused attention has no second derivative.
    monkeypatch.setattr(attention, 'FUSED_FROM', 0)

    def run() -> ConditionalGAN:
        gan = build().double()
        gan.discriminator.eval()
        return gan

    return run


def observe(gan, real, fake, iteration=0) -> DiscriminatorUpdate:
    logits = {name: gan.discriminator(images, LABEL) for name, images in (('fake', fake), ('real', real))}
    return DiscriminatorUpdate(gan, iteration, 0, 1, fake, LABEL, logits['fake'], real, LABEL, logits['real'])


def draw_images():
    return torch.rand(2, 3, 3, 8, 8, dtype=torch.float64) * 2 - 1


def assert_gradient_is_that_of_the_loss(loss, parameters, step=1e-6):
    """Compares each parameter's gradient along a random direction with a central difference."""
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss(), parameters, allow_unused=True)):
        direction, values = torch.randn_like(parameter), []
        for change in (step, -2 * step):
            parameter.data.add_(direction, alpha=change)
            values.append(loss().item())
        parameter.data.add_(direction, alpha=step)
        along = 0.0 if gradient is None else (gradient * direction).sum().item()
        assert along == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize('config', [
    dict(type='R1'),
    dict(type='GradientPenalty'),
    dict(type='ConsistencyRegularization', augment=dict(type=Roll), fake_weight=0.5),
    dict(type='OrthogonalRegularization', network='discriminator'),
], ids=lambda config: config['type'])  # fmt: skip
def test_gradient(build_double, config):
    gan, images = build_double(), draw_images()
    regularizer = MODELS.build(config)

    def loss():
        torch.manual_seed(5)
        return regularizer.discriminator_loss(observe(gan, *images))

    assert_gradient_is_that_of_the_loss(loss, list(gan.discriminator.parameters()))


def test_r1_is_the_squared_norm_of_the_jacobian(build_double):
    gan, (real, fake) = build_double(), draw_images()
    jacobian = torch.autograd.functional.jacobian(lambda images: gan.discriminator(images, LABEL)[:, 0], real)
    squares = [(jacobian[i, i] ** 2).sum() for i in range(3)]
    regularizer = MODELS.build(dict(type='R1', gamma=3))
    torch.testing.assert_close(regularizer.discriminator_loss(observe(gan, real, fake)), sum(squares) / 3)
    assert regularizer.weight == 1.5


def test_gradient_penalty_of_a_paraboloid():
    """The gradient of |x|^2 / 2 is x = e r for fake images at 0 and real ones of norm r: E(e r - 1)^2 = r^2 / 3 - r + 1."""
    real = nn.functional.normalize(torch.randn(20_000, 3 * 64), dim=1).view(-1, 3, 8, 8) * 3
    gan = SimpleNamespace(discriminate=lambda images, label: images.square().sum((1, 2, 3))[:, None] / 2)
    update = SimpleNamespace(gan=gan, real=real, fake=torch.zeros_like(real), real_label=None)
    expected = 3**2 / 3 - 3 + 1
    # Five standard deviations; (e r - 1)^2 lies in [0, 4].
    loss = MODELS.build(dict(type='GradientPenalty')).discriminator_loss(update)
    assert abs(loss.item() - expected) < 5 * 2 / 20_000**0.5


@pytest.mark.parametrize('num_parts', [1, 2])
def test_lecam_follows_its_recursion(num_parts):
    regularizer = MODELS.build(dict(type='LeCam', decay=0.75, start_iter=1)).double()
    real, fake = torch.randn(2, 6, 4, 1, dtype=torch.float64)
    anchors = [0.0, 0.0]
    for iteration in range(6):
        losses = []
        for part in range(num_parts):
            logits = (values[iteration].chunk(num_parts)[part] for values in (fake, real))
            names = zip(('fake_logits', 'real_logits'), logits)
            update = SimpleNamespace(iteration=iteration, part=part, num_parts=num_parts, **dict(names))
            losses.append(regularizer.discriminator_loss(update))
        if iteration <= 1:
            assert losses == [None] * num_parts
            anchors = [float(values[iteration].mean()) for values in (real, fake)]
            continue
        expected = ((real[iteration] - anchors[1]) ** 2).mean() + ((fake[iteration] - anchors[0]) ** 2).mean()
        torch.testing.assert_close(sum(losses) / num_parts, expected)
        anchors = [0.75 * old + 0.25 * float(values[iteration].mean()) for old, values in zip(anchors, (real, fake))]
        assert regularizer.anchors.tolist() == pytest.approx(anchors, rel=1e-12)


@pytest.mark.parametrize('fake_weight', [0, 0.5])
def test_consistency_equals_its_formula(build_double, fake_weight):
    gan, images = build_double(), draw_images()
    config = dict(type='ConsistencyRegularization', augment=dict(type=Roll), fake_weight=fake_weight)
    loss = MODELS.build(config).discriminator_loss(observe(gan, *images))
    moved = torch.cat([images[..., -1:], images[..., :-1]], dim=-1)
    real, fake = [((gan.discriminator(x, LABEL) - gan.discriminator(y, LABEL)) ** 2).mean() for x, y in zip(images, moved)]
    torch.testing.assert_close(loss, real + fake_weight * fake)


@pytest.mark.parametrize('iteration, k', [(0, 8), (99, 8), (100, 6), (299, 4), (300, 3), (10**6, 3)])
def test_top_k_trains_on_the_largest_logits(iteration, k):
    """Whole numbers below 8 * 0.75, 8 * 0.75^2, and 8 * 0.4."""
    regularizer = MODELS.build(dict(type='TopK', fraction=0.4, decay=0.75, decay_iters=100))
    logits = torch.randn(8, 1, dtype=torch.float64, requires_grad=True)
    gan = SimpleNamespace(gan_loss=MODELS.build(dict(type='NonSaturatingGANLoss')))
    loss = gan.gan_loss.generator_loss(logits) + regularizer.generator_loss(Update(gan, iteration, 0, 1, None, None, logits))
    largest = sorted(logits.flatten().tolist())[-k:]
    assert loss.item() == pytest.approx(sum(math.log1p(math.exp(-logit)) for logit in largest) / k, rel=1e-12)
    loss.backward()
    assert sorted(logits.grad.flatten().nonzero().flatten().tolist()) == sorted(logits.flatten().topk(k).indices.tolist())


def test_orthogonal_regularization_of_tall_and_wide_weights():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 7), nn.Embedding(5, 6), nn.BatchNorm2d(4)).double()
    expected = 0.0
    for weight in (network[0].weight.reshape(4, 27), network[1].weight):
        rows = list(weight)
        expected += sum(float(a @ b) ** 2 for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j)
    update = SimpleNamespace(gan=SimpleNamespace(generator=network))
    regularizer = MODELS.build(dict(type='OrthogonalRegularization'))
    assert regularizer.generator_loss(update).item() == pytest.approx(expected, rel=1e-10)
    assert regularizer.discriminator_loss(update) is None
    with pytest.raises(ConfigError, match='network'):
        MODELS.build(dict(type='OrthogonalRegularization', network='generator_ema'))


# ------------------------------------------------------------------------------------------------------------ in a training

ALL = dict(
    r1=dict(type='R1', interval=2),
    lecam=dict(type='LeCam', start_iter=0),
    bcr=dict(type='ConsistencyRegularization', augment=dict(type=Roll), fake_weight=1),
    topk=dict(type='TopK', decay=0.5, decay_iters=1),
    orthogonal=dict(type='OrthogonalRegularization'),
)


def optimizers(gan, kind='OptimWrapper', **kwargs) -> OptimWrapperDict:
    networks = dict(generator=gan.generator, discriminator=gan.discriminator)
    wrapper = OPTIM_WRAPPERS.get(f'mmsagan.{kind}')
    return OptimWrapperDict(
        **{name: wrapper(optimizer=torch.optim.Adam(each.parameters(), lr=1e-3), **kwargs) for name, each in networks.items()}
    )


def batch():
    return dict(inputs=torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), labels=torch.arange(4) % 3)


def test_due_updates_have_the_missing_weight(build):
    """G is updated in every second iteration, of which every third has its loss."""
    names = dict(one=dict(type=One, weight=5, interval=3), two=dict(type=One), gone=None)
    gan = build(discriminator_steps=2, regularizers=names)
    wrappers, seen = optimizers(gan), []
    for iteration in range(1, 13):
        logs = gan.train_step(batch(), wrappers)
        seen += [(key, iteration) for key in logs if key.endswith('_one')]
        if 'loss_disc_one' in logs:
            parts = sum(logs[f'loss_disc_{name}'] for name in ('real', 'fake', 'one', 'two'))
            assert logs['loss_disc_one'] == 15 and torch.allclose(logs['loss_disc'], parts)
    assert [i for key, i in seen if key == 'loss_disc_one'] == [1, 4, 7, 10]
    assert [i for key, i in seen if key == 'loss_gen_one'] == [6, 12]


def test_a_resumed_training_is_the_same(build):
    gan = build(regularizers=ALL)
    wrappers = optimizers(gan)
    data = [batch() for _ in range(5)]
    for each in data[:3]:
        logs = gan.train_step(each, wrappers)
    assert {f'loss_disc_{name}' for name in ('r1', 'lecam', 'bcr')} | {'loss_gen_topk', 'loss_gen_orthogonal'} <= logs.keys()
    other = build(regularizers=ALL)
    resumed = optimizers(other)
    other.load_state_dict(copy.deepcopy(gan.state_dict()))
    resumed.load_state_dict(copy.deepcopy(wrappers.state_dict()))
    for model, optim_wrapper in ((gan, wrappers), (other, resumed)):
        torch.manual_seed(7)
        for each in data[3:]:
            model.train_step(each, optim_wrapper)
    state, expected = other.state_dict(), gan.state_dict()
    assert expected['regularizers.lecam.anchors'].all()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_penalty_that_is_nan_changes_nothing(build):
    gan = build(regularizers=dict(ALL, nan=dict(type=NotANumber)))
    before, wrappers = copy.deepcopy(gan.state_dict()), optimizers(gan, accumulative_counts=2)
    gan.train_step(batch(), wrappers)
    assert [wrapper.skipped for wrapper in wrappers.values()] == [1, 1]
    assert [key for key, value in gan.state_dict().items() if not torch.equal(before[key], value)] == ['iteration']


@pytest.mark.parametrize('kind', ['BFloat16OptimWrapper', pytest.param('compiled', marks=pytest.mark.slow)])
def test_r1_is_the_same_in_lower_precision_and_compiled(build, kind):
    """Compiled functions have no second derivative."""
    data, losses = batch(), []
    for changed in (False, True):
        gan = build(regularizers=dict(r1=dict(type='R1')))
        if changed and kind == 'compiled':
            gan.discriminator.compile(backend='aot_eager')
        wrapper = optimizers(gan, kind if changed and kind != 'compiled' else 'OptimWrapper')['discriminator']
        real = gan.data_preprocessor(data)
        losses.append(gan.train_discriminator(real['inputs'], real['labels'], wrapper)['loss_disc_r1'])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
