import pytest
import torch
from mmengine.optim import OptimWrapperDict, build_optim_wrapper

from mmsagan.checkpoints.openmmlab import swap_red_and_blue
from mmsagan.errors import ConfigError
from mmsagan.models import DataPreprocessor, to_uint8
from mmsagan.registry import MODELS


def test_range_and_types():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)
    out = DataPreprocessor()(dict(inputs=images, labels=torch.tensor([1, 2, 3])))
    torch.testing.assert_close(out['inputs'][:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    assert out['labels'].dtype == torch.long and out['labels'].tolist() == [1, 2, 3]


def test_batches_of_lists_are_stacked():
    images = [torch.zeros(3, 4, 4, dtype=torch.uint8) for _ in range(2)]
    assert DataPreprocessor()(dict(inputs=images, labels=[0, 1]))['inputs'].shape == (2, 3, 4, 4)


def test_to_uint8_undoes_it_and_clips():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    back = to_uint8(DataPreprocessor()(dict(inputs=levels, labels=[0]))['inputs'])
    assert torch.equal(back, levels)
    assert to_uint8(torch.tensor([-1.5, 1.5, 0.0])).tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    'arguments', [dict(output_channel_order='BGR'), dict(rgb_to_bgr=True), dict(output_channel_order='RGB')]
)
def test_networks_see_rgb_whatever_mmagic_configs_say(arguments):
    images = torch.arange(3, dtype=torch.uint8)[None, :, None, None].expand(1, 3, 2, 2)
    data = dict(inputs=images, labels=[0])
    assert torch.equal(DataPreprocessor(**arguments)(data)['inputs'], DataPreprocessor()(data)['inputs'])


def test_only_bgr_is_worth_a_warning(monkeypatch):
    said = []
    monkeypatch.setattr('mmsagan.models.data_preprocessor.print_log', lambda text, **_: said.append(text))
    for arguments in ({}, dict(output_channel_order='RGB'), dict(rgb_to_bgr=False)):
        DataPreprocessor(**arguments)
    assert not said
    DataPreprocessor(output_channel_order='BGR')
    assert len(said) == 1 and 'networks here work on RGB' in said[0]


def test_unknown_channel_orders():
    with pytest.raises(ConfigError, match="output_channel_order must be 'RGB' or 'BGR', got 'GBR'"):
        DataPreprocessor(output_channel_order='GBR')


def test_training_on_bgr_is_training_on_rgb_with_renamed_channels(gan_config):
    """From swapped weights, a step on swapped images leads to the swapped weights of a step on the images."""
    images, label = torch.rand(4, 3, 32, 32) * 2 - 1, torch.tensor([0, 1, 2, 0])
    start = None
    results = []
    for swapped in (False, True):
        model = MODELS.build(gan_config())
        model.init_weights()
        start = start or {key: tensor.clone() for key, tensor in model.state_dict().items()}
        model.load_state_dict(swap_red_and_blue(start) if swapped else start)
        optimizers = OptimWrapperDict(
            **{
                name: build_optim_wrapper(getattr(model, name), dict(optimizer=dict(type='SGD', lr=1e-2)))
                for name in ('generator', 'discriminator')
            }
        )
        torch.manual_seed(1)
        model.train_discriminator(images.flip(1) if swapped else images, label, optimizers['discriminator'])
        model.train_generator(4, optimizers['generator'])
        state = model.state_dict()
        results.append(swap_red_and_blue(state) if swapped else state)
    changed = [key for key in start if not torch.equal(start[key], results[0][key])]
    assert {key.split('.')[0] for key in changed} == {'generator', 'discriminator'}
    for key, tensor in results[0].items():
        torch.testing.assert_close(results[1][key], tensor, rtol=1e-4, atol=1e-5)


@pytest.fixture
def pictures():
    """400 images whose left half is dark and whose right half is light."""
    images = torch.zeros(400, 3, 2, 4, dtype=torch.uint8)
    images[..., 2:] = 255
    return dict(inputs=images, labels=torch.arange(400))


def mirrored(batch) -> torch.Tensor:
    """Which images are mirrored; each has to be whole."""
    left, right = batch['inputs'][..., :2], batch['inputs'][..., 2:]
    flipped = left[:, 0, 0, 0] == 1
    sign = torch.where(flipped, -1.0, 1.0)[:, None, None, None]
    assert torch.equal(left, (-sign).expand_as(left)) and torch.equal(right, sign.expand_as(right))
    return flipped


@pytest.mark.parametrize('probability', [0.5, 0.2])
def test_flips_of_each_image(pictures, probability):
    before = pictures['inputs'].clone()
    batch = DataPreprocessor(flip_prob=probability)(pictures, training=True)
    flipped = mirrored(batch)
    # Five standard deviations.
    assert abs(flipped.float().mean().item() - probability) < 5 * (probability * (1 - probability) / 400) ** 0.5
    assert 0 < flipped.sum() < 400 and torch.equal(batch['labels'], pictures['labels'])
    assert torch.equal(pictures['inputs'], before), 'the loader may reuse its memory, but this must not change it'


def test_flips_follow_the_seed(pictures):
    preprocessor, draws = DataPreprocessor(flip_prob=0.5), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append([mirrored(preprocessor(pictures, True)) for _ in range(2)])
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[0][1]) and not torch.equal(draws[0][0], draws[2][0])


def test_flips_that_always_or_never_happen(pictures):
    assert mirrored(DataPreprocessor(flip_prob=1)(pictures, True)).all()
    assert not mirrored(DataPreprocessor(flip_prob=0.5)(pictures)).any(), 'not while evaluating'
    state = torch.get_rng_state()
    assert not mirrored(DataPreprocessor()(pictures, True)).any()
    assert torch.equal(torch.get_rng_state(), state), 'trainings without it draw the random numbers that they drew before'


def test_the_gan_trains_on_flipped_images(gan_config, monkeypatch):
    model = MODELS.build(gan_config(data_preprocessor=dict(type='DataPreprocessor', flip_prob=1.0)))
    seen = []
    monkeypatch.setattr(model, 'train_discriminator', lambda images, *_: seen.append(images) or {})
    monkeypatch.setattr(model, 'train_generator', lambda *_: {})
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    model.train_step(dict(inputs=images, labels=torch.tensor([0, 1])), dict(discriminator=None, generator=None))
    assert torch.equal(to_uint8(seen[0]), images.flip(3)) and not torch.equal(images, images.flip(3))


@pytest.mark.parametrize('value', [-0.1, 1.5, 'half', None, float('nan')])
def test_flip_probabilities_that_are_none(value):
    with pytest.raises(ConfigError, match='flip_prob must be a number from 0 to 1'):
        DataPreprocessor(flip_prob=value)
