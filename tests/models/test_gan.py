"""The training step, skipped updates, and sampling."""

import copy
import math

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.registry import MODELS, OPTIM_WRAPPERS

NETWORKS = ('generator', 'discriminator')
# One block each, with attention, spectral norms and conditional batch norms.
GENERATOR = dict(output_scale=8, channels_cfg=[1], attention_after_nth_block=1)
DISCRIMINATOR = dict(input_scale=8, channels_cfg=[1], downsample_cfg=[False])


def build(gan_config, discriminator=None, **kwargs) -> ConditionalGAN:
    gan = MODELS.build(gan_config(generator=GENERATOR, discriminator={**DISCRIMINATOR, **(discriminator or {})}, **kwargs))
    gan.init_weights()
    return gan.train()


def optimizers(gan, lr=1e-3, optimizer=torch.optim.Adam, kind=OptimWrapper, **kwargs) -> OptimWrapperDict:
    wrappers = {name: kind(optimizer(getattr(gan, name).parameters(), lr=lr), **kwargs) for name in NETWORKS}
    return OptimWrapperDict(**wrappers)


def batch(size=4):
    return dict(inputs=torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8), labels=torch.arange(size) % 3)


def update(gan, wrapper, network, data):
    """One update of one network."""
    if network == 'generator':
        return gan.train_generator(len(data['labels']), wrapper)
    real = gan.data_preprocessor(data)
    return gan.train_discriminator(real['inputs'], real['labels'], wrapper)


def changed(before: dict, after: dict) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


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


def tiny_gan(**kwargs) -> ConditionalGAN:
    return ConditionalGAN(dict(type=TinyGenerator), dict(type=TinyDiscriminator), num_classes=3, **kwargs)


@pytest.mark.parametrize('dist_step, gen_steps, expected', [(1, 1, 20), (5, 2, 8), (3, 1, 6)])
def test_update_schedule(dist_step, gen_steps, expected):
    gan = tiny_gan(discriminator_steps=dist_step, generator_steps=gen_steps)
    wrappers = optimizers(gan, optimizer=CountedSGD)
    for iteration in range(1, 21):
        logs = gan.train_step(batch(), wrappers)
        assert ('loss_gen' in logs) == (iteration % dist_step == 0)
    assert [wrappers[name].optimizer.steps for name in NETWORKS] == [expected, 20]
    assert int(gan.iteration) == 20


def test_schedule_goes_on_after_loading():
    gan, other = tiny_gan(discriminator_steps=5), tiny_gan(discriminator_steps=5)
    wrappers = optimizers(other)
    other.train_step(batch(), wrappers)
    for _ in range(3):
        gan.train_step(batch(), optimizers(gan))
    other.load_state_dict(gan.state_dict())
    assert ['loss_gen' in other.train_step(batch(), wrappers) for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize('network', NETWORKS)
def test_each_update_changes_its_own_network_only(gan_config, network):
    gan = build(gan_config)
    before = copy.deepcopy(dict(gan.named_parameters()))
    update(gan, optimizers(gan)[network], network, batch())
    assert {name.split('.')[0] for name in changed(before, dict(gan.named_parameters()))} == {network}
    assert all(parameter.requires_grad and parameter.grad is None for parameter in gan.parameters())


@pytest.mark.parametrize('network', NETWORKS)
def test_accumulated_gradient_is_that_of_the_whole_batch(network, monkeypatch):
    """4 parts of 4 and one batch of 16, on the same noise and labels, move the weights, and the anchors of LeCam, alike."""
    regularizers = dict(r1=dict(type='R1'), lecam=dict(type='LeCam', start_iter=-1))
    noise, label = torch.randn(16, 4), torch.randint(3, (16,))
    data = batch(16)
    moved = []
    for parts in (1, 4):
        torch.manual_seed(1)
        gan = tiny_gan(regularizers=regularizers)
        nn.init.constant_(gan.regularizers['lecam'].anchors, 0.5)
        before = copy.deepcopy(gan.state_dict())
        for name, drawn in (('draw_noise', iter(noise.chunk(parts))), ('draw_label', iter(label.chunk(parts)))):
            monkeypatch.setattr(gan, name, lambda n, drawn=drawn: torch.cat([next(drawn)] * 4)[:n])
        wrapper = optimizers(gan, lr=1, optimizer=CountedSGD, accumulative_counts=parts)[network]
        sizes = []
        gan.discriminator.register_forward_pre_hook(lambda module, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        update(gan, wrapper, network, data)
        assert wrapper.optimizer.steps == 1 and set(sizes) == {16 // parts}
        moved.append({key: value - before[key] for key, value in gan.state_dict().items()})
    for key, value in moved[0].items():
        torch.testing.assert_close(moved[1][key], value, rtol=1e-5, atol=1e-6)


def test_fake_labels_are_uniform():
    counts = torch.bincount(tiny_gan().draw_label(30_000), minlength=3)
    # Five standard deviations of a binomial count.
    assert (counts - 10_000).abs().max() < 5 * (30_000 * 2 / 9) ** 0.5


def test_every_update_of_the_generator_counts_for_the_average():
    gan = tiny_gan(generator_steps=2, discriminator_steps=2, ema_config=dict(momentum=0.9))
    numbers = []
    gan.ema.update = lambda average, generator, iteration, num_updates: numbers.append((iteration, num_updates))
    wrappers = optimizers(gan)
    for _ in range(4):
        gan.train_step(batch(), wrappers)
    assert numbers == [(2, 1), (2, 2), (4, 3), (4, 4)]


def test_auxiliary_classifier_is_trained_in_both_networks(gan_config):
    """Classes are colours here: D soon tells them apart, and its loss reaches the generator."""
    gan = build(gan_config, discriminator=dict(type='ACDiscriminator'), auxiliary_loss=dict(type='AuxiliaryClassificationLoss'))
    wrappers = optimizers(gan, lr=1e-2)
    data = batch(size=6)
    data['inputs'] = (data['labels'] * 100)[:, None, None, None].expand(-1, 3, 8, 8).to(torch.uint8).contiguous()
    first = gan.train_step(data, wrappers)
    parts = first['loss_disc_real'] + first['loss_disc_fake'] + first['loss_disc_class']
    torch.testing.assert_close(first['loss_disc'], parts)
    torch.testing.assert_close(first['logits_gap'], first['logits_real'] - first['logits_fake'], rtol=0, atol=0)
    assert first['loss_gen_class'] > 0
    for _ in range(25):
        gan.train_step(data, wrappers)
    images = gan.data_preprocessor(data)['inputs']
    assert (gan.discriminator(images)[1].argmax(1) == data['labels']).all()


@pytest.mark.parametrize(
    'change, key',
    [
        (dict(generator=dict(num_classes=4)), 'model.generator.num_classes=4'),
        (dict(discriminator=dict(input_scale=64)), 'model.discriminator.input_scale=64'),
        (dict(num_classes=None), 'model.num_classes'),
        (dict(discriminator_steps=0), 'discriminator_steps'),
        (dict(noise_size=99), 'model.noise_size=99'),
        (dict(discriminator=dict(type='ACDiscriminator')), 'model.auxiliary_loss'),
        (dict(auxiliary_loss=dict(type='AuxiliaryClassificationLoss')), 'model.auxiliary_loss'),
    ],
)
def test_parts_that_disagree(gan_config, change, key):
    with pytest.raises(ConfigError, match=key):
        MODELS.build(gan_config(**change))


def test_batch_must_divide_into_the_parts():
    gan = tiny_gan()
    with pytest.raises(ConfigError, match='accumulative_counts=3'):
        gan.train_step(batch(4), optimizers(gan, accumulative_counts=3))


def build_skipping(gan_config, accumulative_counts=1, **kwargs):
    torch.manual_seed(3)
    gan = build(gan_config, ema_config=dict(momentum=0.5), **kwargs)
    return gan, optimizers(gan, kind=OPTIM_WRAPPERS.get('mmsagan.OptimWrapper'), accumulative_counts=accumulative_counts)


def state_of(gan, wrappers):
    """Every tensor of the model and of the optimizers."""
    state = dict(gan.state_dict())
    for network, wrapper in wrappers.items():
        for index, values in enumerate(wrapper.optimizer.state.values()):
            state |= {f'optimizer.{network}.{index}.{name}': value for name, value in values.items()}
    return copy.deepcopy(state)


def spoil(gan, network):
    """The output of a convolution overflows, as in half precision, and reaches the running statistics after it."""
    layer = next(layer for layer in getattr(gan, network).modules() if isinstance(layer, nn.Conv2d))
    return layer.register_forward_hook(lambda layer, inputs, output: output * math.inf).remove


@pytest.mark.parametrize('options', [{}, dict(fast=False, accumulative_counts=2)], ids=['', 'plain, accumulated'])
@pytest.mark.parametrize('network', NETWORKS)
def test_a_skipped_update_changes_nothing(gan_config, network, options):
    gan, wrappers = build_skipping(gan_config, **options)
    data = batch()
    for name in NETWORKS:
        update(gan, wrappers[name], name, data)
    before = state_of(gan, wrappers)
    mend = spoil(gan, network)
    for number in (1, 2):
        update(gan, wrappers[network], network, data)
        assert wrappers[network].skipped == number
        assert changed(before, state_of(gan, wrappers)) == set()
    mend()
    update(gan, wrappers[network], network, data)
    assert wrappers[network].skipped_in_a_row == 0
    assert network in {name.split('.')[0] for name in changed(before, state_of(gan, wrappers))}


def test_a_skipped_iteration_counts_and_changes_nothing_but_the_average(gan_config):
    gan, wrappers = build_skipping(gan_config, generator_steps=2)
    gan.train_step(batch(), wrappers)
    before = state_of(gan, wrappers)
    mended = [spoil(gan, name) for name in NETWORKS]
    gan.train_step(batch(), wrappers)
    assert [wrappers[name].skipped for name in NETWORKS] == [2, 1]
    after = state_of(gan, wrappers)
    changes = changed(before, after) - {'iteration'}
    assert changes and all(name.startswith('generator_ema.') for name in changes) and int(gan.iteration) == 2
    for name in changes:  # two steps of a half each towards the generator, which stays as it is
        generator = before[name.replace('generator_ema', 'generator')]
        torch.testing.assert_close(after[name], 0.25 * before[name] + 0.75 * generator)
    for mend in mended:
        mend()
    numbers, average = [], gan.ema.update
    gan.ema.update = lambda *args: numbers.append(args[2:]) or average(*args)
    logs = gan.train_step(batch(), wrappers)
    assert {'loss_gen', 'loss_disc', 'logits_gap'} <= set(logs) and numbers == [(3, 5), (3, 6)]
    parts = {name.split('.')[0] for name in changed(before, state_of(gan, wrappers))}
    assert parts == {*NETWORKS, 'generator_ema', 'optimizer', 'iteration'}


def test_ema_starts_after_start_iter_and_is_sampled(gan_config):
    gan = build(gan_config, ema_config=dict(momentum=0.9, start_iter=2))
    wrappers = optimizers(gan, lr=0.01)
    label = torch.tensor([0, 1, 2])
    noise = torch.randn(3, 16)
    for iteration in range(1, 4):
        gan.train_step(batch(), wrappers)
        ema, orig = (gan.sample(noise, label, sample_model=name) for name in ('ema', 'orig'))
        assert torch.equal(ema, orig) == (iteration <= 2)
    assert torch.equal(gan.sample(noise, label), ema), 'the moving average is what is sampled by default'
    assert not gan.generator_ema.training and gan.generator.training


def test_sampling(gan_config):
    gan = build(gan_config)
    images = gan.sample(num_samples=5)
    assert images.shape == (5, 3, 8, 8) and gan.generator.training
    noise, label = torch.randn(2, 16), torch.tensor([1, 2])
    assert torch.equal(gan.sample(noise, label), gan(noise, label))
    for kwargs, message in (
        (dict(label=torch.tensor([-1])), 'label'),
        (dict(label=torch.full((1, 3), math.nan)), 'class weights'),
        (dict(sample_model='ema'), 'model.ema_config'),
    ):
        with pytest.raises(ConfigError, match=message):
            gan.sample(**kwargs)
