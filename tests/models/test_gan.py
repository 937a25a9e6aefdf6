import copy

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.registry import MODELS


def build(gan_config, **kwargs) -> ConditionalGAN:
    gan = MODELS.build(gan_config(**kwargs))
    gan.init_weights()
    return gan


def optimizers(gan, lr=1e-3, optimizer=torch.optim.Adam, **kwargs) -> OptimWrapperDict:
    return OptimWrapperDict(
        **{
            name: OptimWrapper(optimizer(getattr(gan, name).parameters(), lr=lr), **kwargs)
            for name in ('generator', 'discriminator')
        }
    )


def batch(size=4, scale=32):
    return dict(inputs=torch.randint(0, 256, (size, 3, scale, scale), dtype=torch.uint8), labels=torch.arange(size) % 3)


class CountedSGD(torch.optim.SGD):
    """Counts its steps."""

    steps = 0

    def step(self, *args, **kwargs):
        self.steps += 1
        return super().step(*args, **kwargs)


class TinyGenerator(nn.Module):
    noise_size = 4
    output_scale = 8

    def __init__(self, num_classes=3):
        super().__init__()
        self.linear = nn.Linear(4, 3 * 64)

    def forward(self, noise, label=None):
        return torch.tanh(self.linear(noise)).view(-1, 3, 8, 8)


class TinyDiscriminator(nn.Module):
    input_scale = 8

    def __init__(self, num_classes=3):
        super().__init__()
        self.linear = nn.Linear(3 * 64, 1)
        self.embedding = nn.Embedding(num_classes, 1)

    def forward(self, image, label=None):
        return self.linear(image.flatten(1)) + self.embedding(label)


@pytest.fixture(scope='module', autouse=True)
def tiny_networks():
    MODELS.register_module(module=TinyGenerator, force=True)
    MODELS.register_module(module=TinyDiscriminator, force=True)


def tiny_gan(**kwargs) -> ConditionalGAN:
    return ConditionalGAN(dict(type='TinyGenerator'), dict(type='TinyDiscriminator'), num_classes=3, **kwargs)


@pytest.mark.parametrize('dist_step, gen_steps, expected', [(5, 1, 20), (1, 1, 100), (5, 2, 40), (3, 1, 33)])
def test_update_schedule(dist_step, gen_steps, expected):
    gan = tiny_gan(discriminator_steps=dist_step, generator_steps=gen_steps)
    wrappers = optimizers(gan, optimizer=CountedSGD)
    for iteration in range(1, 101):
        logs = gan.train_step(batch(scale=8), wrappers)
        assert ('loss_gen' in logs) == (iteration % dist_step == 0)
    assert wrappers['discriminator'].optimizer.steps == 100
    assert wrappers['generator'].optimizer.steps == expected
    assert int(gan.iteration) == 100


def test_schedule_goes_on_after_loading():
    gan, other = tiny_gan(discriminator_steps=5), tiny_gan(discriminator_steps=5)
    for _ in range(3):
        gan.train_step(batch(scale=8), optimizers(gan))
    other.load_state_dict(gan.state_dict())
    wrappers = optimizers(other)
    assert ['loss_gen' in other.train_step(batch(scale=8), wrappers) for _ in range(3)] == [False, True, False]


def test_each_step_changes_its_own_network_only(gan_config):
    gan = build(gan_config)
    wrappers = optimizers(gan)
    before = copy.deepcopy(dict(gan.named_parameters()))
    real = gan.data_preprocessor(batch())
    gan.train_discriminator(real['inputs'], real['labels'], wrappers['discriminator'])

    def changed():
        return {name.split('.')[0] for name, value in gan.named_parameters() if not torch.equal(value, before[name])}

    assert changed() == {'discriminator'}
    before = copy.deepcopy(dict(gan.named_parameters()))
    gan.train_generator(4, wrappers['generator'])
    assert changed() == {'generator'}
    assert all(parameter.requires_grad and parameter.grad is None for parameter in gan.discriminator.parameters())


@pytest.mark.parametrize('optimizer', ['discriminator', 'generator'])
def test_accumulated_gradient_is_that_of_the_whole_batch(optimizer, monkeypatch):
    """4 parts of 4 and one batch of 16, on the same noise and labels, move the weights alike."""
    noise, label = torch.randn(16, 4), torch.randint(3, (16,))
    data = batch(16, scale=8)
    moved = []
    for parts in (1, 4):
        torch.manual_seed(1)
        gan = tiny_gan()
        before = copy.deepcopy(gan.state_dict())
        drawn = dict(noise=list(noise.chunk(parts)), label=list(label.chunk(parts)))
        monkeypatch.setattr(gan, 'draw_noise', lambda n, d=drawn: d['noise'].pop(0))
        monkeypatch.setattr(gan, 'draw_label', lambda n, d=drawn: d['label'].pop(0))
        wrapper = optimizers(gan, lr=1, optimizer=CountedSGD, accumulative_counts=parts)[optimizer]
        if optimizer == 'generator':
            gan.train_generator(16, wrapper)
        else:
            real = gan.data_preprocessor(data)
            gan.train_discriminator(real['inputs'], real['labels'], wrapper)
        assert wrapper.optimizer.steps == 1
        moved.append({key: value - before[key] for key, value in gan.state_dict().items()})
    for key, value in moved[0].items():
        torch.testing.assert_close(moved[1][key], value, rtol=1e-5, atol=1e-6)


def test_batch_must_divide_into_the_parts(gan_config):
    gan = build(gan_config)
    with pytest.raises(ConfigError, match='accumulative_counts=3'):
        gan.train_step(batch(4), optimizers(gan, accumulative_counts=3))


def test_fake_labels_are_uniform():
    gan = tiny_gan()
    counts = torch.bincount(gan.draw_label(30_000), minlength=3)
    # Five standard deviations of a binomial count.
    assert (counts - 10_000).abs().max() < 5 * (30_000 * 2 / 9) ** 0.5


def test_ema_starts_after_start_iter_and_is_sampled(gan_config):
    gan = build(gan_config, ema_config=dict(momentum=0.9, start_iter=2))
    wrappers = optimizers(gan, lr=0.01)
    gan.train()
    label = torch.tensor([0, 1, 2])
    noise = torch.randn(3, 16)
    for iteration in range(1, 5):
        gan.train_step(batch(), wrappers)
        ema, orig = (gan.sample(noise, label, sample_model=name) for name in ('ema', 'orig'))
        assert torch.equal(ema, orig) == (iteration <= 2)
    assert torch.equal(gan.sample(noise, label), ema), 'the moving average is what is sampled by default'
    assert not gan.generator_ema.training and gan.generator.training


def test_sampling(gan_config):
    gan = build(gan_config)
    gan.train()
    images = gan.sample(num_samples=5)
    assert images.shape == (5, 3, 32, 32) and gan.generator.training
    noise, label = torch.randn(2, 16), torch.tensor([1, 2])
    assert torch.equal(gan.sample(noise, label), gan(noise, label))
    for kwargs, message in (
        (dict(label=torch.tensor([3])), r'label out of range: 3 to 3, but the model has 3 classes, 0 to 2'),
        (dict(label=torch.tensor([-1])), 'out of range'),
        (dict(noise=torch.randn(2, 16), label=torch.tensor([1])), '1 labels for 2 noise vectors'),
        (dict(sample_model='ema'), 'no moving average'),
        (dict(sample_model='best'), "'ema' or 'orig'"),
    ):
        with pytest.raises(ConfigError, match=message):
            gan.sample(**kwargs)


def test_sngan_is_the_same_class():
    assert MODELS.get('SNGAN') is MODELS.get('SAGAN') is ConditionalGAN


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(generator=dict(num_classes=4)), 'model.num_classes=3, model.generator.num_classes=4'),
        (dict(discriminator=dict(num_classes=5)), 'model.discriminator.num_classes=5'),
        (dict(num_classes=None), 'set model.num_classes'),
        (dict(discriminator_steps=0), 'at least 1'),
        (dict(noise_size=99), 'model.noise_size=99'),
    ],
)
def test_parts_that_disagree(gan_config, change, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build(gan_config(**change))


def test_sizes_that_disagree(gan_config):
    cfg = gan_config()
    cfg['discriminator']['input_scale'] = 64
    with pytest.raises(ConfigError, match='output_scale=32 but model.discriminator.input_scale=64'):
        MODELS.build(cfg)


def test_every_update_of_the_generator_counts_for_the_average():
    gan = tiny_gan(generator_steps=2, discriminator_steps=2, ema_config=dict(momentum=0.9))
    numbers = []
    gan.ema.update = lambda average, generator, iteration, num_updates: numbers.append((iteration, num_updates))
    wrappers = optimizers(gan)
    for _ in range(4):
        gan.train_step(batch(scale=8), wrappers)
    assert numbers == [(2, 1), (2, 2), (4, 3), (4, 4)]


def test_unconditional_training():
    gan = ConditionalGAN(
        dict(type='SAGANGenerator', output_scale=32, base_channels=8, noise_size=4),
        dict(type='ProjDiscriminator', input_scale=32, base_channels=8),
        num_classes=0,
    )
    logs = gan.train_step(batch(), optimizers(gan))
    assert {'loss_disc', 'loss_gen'} <= set(logs) and gan.sample(num_samples=2).shape == (2, 3, 32, 32)


def test_auxiliary_classifier_is_trained_in_both_networks(gan_config):
    """Classes are colours here: D soon tells them apart, and its loss reaches the generator."""
    gan = build(gan_config, discriminator=dict(type='ACDiscriminator'), auxiliary_loss=dict(type='AuxiliaryClassificationLoss'))
    wrappers = optimizers(gan, lr=1e-2)
    data = batch(size=6)
    data['inputs'] = (data['labels'] * 100)[:, None, None, None].expand(-1, 3, 32, 32).to(torch.uint8).contiguous()
    first = gan.train_step(data, wrappers)
    parts = first['loss_disc_real'] + first['loss_disc_fake'] + first['loss_disc_class']
    torch.testing.assert_close(first['loss_disc'], parts)
    assert first['loss_gen_class'] > 0
    for _ in range(25):
        gan.train_step(data, wrappers)
    images = gan.data_preprocessor(data)['inputs']
    assert (gan.discriminator(images)[1].argmax(1) == data['labels']).all()


def test_a_weight_of_zero_leaves_the_adversarial_loss(gan_config):
    weights = dict(type='AuxiliaryClassificationLoss', discriminator_weight=0, generator_weight=0)
    gan = build(gan_config, discriminator=dict(type='ACDiscriminator'), auxiliary_loss=weights)
    before = gan.discriminator.classifier.weight_orig.clone()
    wrappers = optimizers(gan)
    logs = gan.train_step(batch(), wrappers)
    torch.testing.assert_close(logs['loss_disc'], logs['loss_disc_real'] + logs['loss_disc_fake'])
    assert torch.equal(gan.discriminator.classifier.weight_orig, before)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(discriminator=dict(type='ACDiscriminator')), 'says classes: set model.auxiliary_loss'),
        (dict(auxiliary_loss=dict(type='AuxiliaryClassificationLoss')), 'remove model.auxiliary_loss'),
        (dict(num_classes=0, generator=dict(use_cbn=False), discriminator=dict(type='ACDiscriminator')), 'needs classes'),
    ],
)
def test_classifier_and_loss_go_together(gan_config, change, message):
    with pytest.raises(ConfigError, match=message):
        MODELS.build(gan_config(**change))
