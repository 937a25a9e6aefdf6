import pytest
import torch
from mmengine.optim import OptimWrapper

from mmsagan.errors import ConfigError
from mmsagan.models import DataPreprocessor, to_uint8
from mmsagan.registry import MODELS


def test_range_and_types():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)
    for inputs, labels in ((images, torch.tensor([1, 2, 3])), (list(images), [1, 2, 3])):
        out = DataPreprocessor()(dict(inputs=inputs, labels=labels))
        torch.testing.assert_close(out['inputs'][:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
        assert out['inputs'].shape == (3, 3, 2, 2)
        assert out['labels'].dtype == torch.long and out['labels'].tolist() == [1, 2, 3]


def test_to_uint8_undoes_it_and_clips():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    back = to_uint8(DataPreprocessor()(dict(inputs=levels, labels=[0]))['inputs'])
    assert torch.equal(back, levels)
    assert to_uint8(torch.tensor([-1.5, 1.5, 0.0])).tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    'arguments, warns',
    [(dict(output_channel_order='BGR'), True), (dict(rgb_to_bgr=True), True), (dict(output_channel_order='RGB'), False)],
)
def test_networks_see_rgb_whatever_mmagic_configs_say(arguments, warns, monkeypatch):
    said = []
    monkeypatch.setattr('mmsagan.models.data_preprocessor.print_log', lambda text, **_: said.append(text))
    images = torch.arange(3, dtype=torch.uint8)[None, :, None, None].expand(1, 3, 2, 2)
    data = dict(inputs=images, labels=[0])
    assert torch.equal(DataPreprocessor(**arguments)(data)['inputs'], DataPreprocessor()(data)['inputs'])
    assert len(said) == warns


@pytest.mark.parametrize('probability', [0.0, 0.2, 1.0])
def test_each_image_is_flipped_with_the_probability(probability):
    """400 images whose left half is dark and whose right half is light."""
    images = torch.zeros(400, 3, 2, 4, dtype=torch.uint8)
    images[..., 2:] = 255
    data, before = dict(inputs=images, labels=torch.arange(400)), images.clone()
    preprocessor, draws = DataPreprocessor(flip_prob=probability), []
    assert (preprocessor(data)['inputs'][..., 0] == -1).all(), 'no flips in evaluation'
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        batch = preprocessor(data, training=True)
        assert torch.equal(torch.get_rng_state(), state) == (probability == 0), 'without flips, no random number is drawn'
        flipped = batch['inputs'][:, 0, 0, 0] == 1
        sign = torch.where(flipped, 1.0, -1.0)[:, None, None, None]
        assert torch.equal(batch['inputs'][..., :2], sign.expand(-1, 3, 2, 2)), 'an image is flipped as a whole'
        assert torch.equal(batch['inputs'][..., 2:], -sign.expand(-1, 3, 2, 2)) and torch.equal(batch['labels'], data['labels'])
        # Five standard deviations
        assert abs(flipped.float().mean().item() - probability) <= 5 * (probability * (1 - probability) / 400) ** 0.5
        draws.append(flipped)
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2]) == (probability != 0.2)
    assert torch.equal(images, before), 'the memory of the loader must not change'


def test_the_gan_trains_on_flipped_images(gan_config, monkeypatch):
    model = MODELS.build(gan_config(data_preprocessor=dict(type='DataPreprocessor', flip_prob=1.0)))
    seen = []
    monkeypatch.setattr(model, 'train_discriminator', lambda images, *_: seen.append(images) or {})
    monkeypatch.setattr(model, 'train_generator', lambda *_: {})
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    wrappers = {name: OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)) for name in ('generator', 'discriminator')}
    model.train_step(dict(inputs=images, labels=torch.tensor([0, 1])), wrappers)
    assert torch.equal(to_uint8(seen[0]), images.flip(3)) and not torch.equal(images, images.flip(3))


@pytest.mark.parametrize(
    'arguments', [dict(output_channel_order='GBR'), *(dict(flip_prob=value) for value in (1.5, 'half', float('nan')))]
)
def test_wrong_arguments(arguments):
    with pytest.raises(ConfigError, match='data_preprocessor.' + next(iter(arguments))):
        DataPreprocessor(**arguments)
