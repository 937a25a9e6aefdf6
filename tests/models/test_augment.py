"""Augmentations against torch.rot90, scipy and colorsys, and ADA's probability on a made signal."""

import colorsys
import copy
import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation
from test_gan import NETWORKS, batch, build_skipping, changed, optimizers, spoil, state_of, tiny_gan
from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.models import ADA, DiffAugment
from mmsagan.models.augment import _affine, _color_matrix, _warp
from mmsagan.registry import MODELS

SMOOTH = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4).double() * 2 - 1, size=16, mode='bicubic')


def always(groups, p=1.0) -> ADA:
    ada = ADA(groups)
    ada.p.fill_(p)
    return ada


def noise_images(count=64, size=16):
    return torch.rand(count, 3, size, size) * 2 - 1


def test_blit_is_one_of_eight_orientations_moved_by_whole_pixels():
    image = noise_images(1)
    results = always(['blit'])(image.expand(2000, -1, -1, -1))
    orientations = [torch.rot90(each, turns, (2, 3)) for each in (image, image.flip(3)) for turns in range(4)]
    padded = [torch.nn.functional.pad(each, (2, 2, 2, 2), 'reflect') for each in orientations]
    inner, found = results[:, :, 2:-2, 2:-2], []
    for index, (rows, columns) in ((i, (r, c)) for i in range(8) for r in range(-2, 3) for c in range(-2, 3)):
        reference = padded[index][:, :, 4 - rows : 16 - rows, 4 - columns : 16 - columns]
        same = (inner - reference).abs().amax((1, 2, 3)) < 1e-4
        found += [(index, rows, columns)] * int(same.sum())
    assert len(found) == 2000
    for values, share in zip(zip(*found), ([1 / 8] * 8, *[[1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8]] * 2)):
        counts = np.unique(values, return_counts=True)[1]
        assert stats.chisquare(counts, 2000 * np.array(share)).pvalue > 1e-4


@pytest.mark.parametrize('transform', ['scale', 'rotation', 'aspect', 'translation', 'all'])
def test_a_warp_is_that_of_scipy(transform):
    one = torch.ones(1).double()
    values = dict(scale=[1.3, 1.3, 0, 0, 0], rotation=[1, 1, 0.7, 0, 0], aspect=[1.2, 1 / 1.2, 0, 0, 0])
    values |= dict(translation=[1, 1, 0, 0.21, -0.13], all=[1.1, 0.8, -0.4, 0.3, 0.2])
    x_scale, y_scale, angle, x, y = values[transform]
    result = _warp(SMOOTH, _affine(x_scale * one, y_scale * one, angle * one, torch.tensor([[x], [y]]).double()))[0]
    matrix = np.diag([x_scale, y_scale]) @ Rotation.from_euler('z', angle).as_matrix()[:2, :2]
    matrix, shift = matrix[::-1, ::-1], (matrix @ [x, y])[::-1] * 8  # rows first, in pixels
    offset = shift + 7.5 - matrix @ [7.5, 7.5]
    for channel in range(3):
        reference = ndimage.affine_transform(SMOOTH[0, channel].numpy(), matrix, offset, order=1, mode='reflect')
        np.testing.assert_allclose(result[channel], reference, atol=1e-6)


def test_distribution_of_the_geometry():
    ada, images = always(['geom']), noise_images(20_000, 1)
    matrix = ada.draw_geometry(images)[:, :2, :2].double()
    assert stats.kstest(torch.linalg.det(matrix).log2() / 2, stats.norm(0, 0.2).cdf).pvalue > 1e-4
    singular = torch.linalg.svdvals(matrix)
    assert stats.kstest((singular[:, 0] / singular[:, 1]).log2() / 2, stats.halfnorm(0, 0.2).cdf).pvalue > 1e-4
    shift = torch.linalg.solve(ada.draw_geometry(images).double(), torch.tensor([0.0, 0, 1]).double())[:, :2]
    assert stats.kstest(shift.flatten(), stats.norm(0, 0.25).cdf).pvalue > 1e-4
    # Rotated with the probability p in all, each time by a uniform angle; scaled and moved with the probability p.
    ada.p.fill_(0.36)
    matrix = ada.draw_geometry(images)
    is_rotated, is_moved = (matrix[:, 0, 1] != 0) | (matrix[:, 1, 0] != 0), (matrix[:, :2, 2] != 0).any(1)
    for flags in (is_rotated, is_moved):
        assert abs(flags.double().mean() - 0.36) < 5 * math.sqrt(0.36 * 0.64 / 20_000)


def test_colors():
    one, pixel = torch.ones(1).double(), np.array([0.3, -0.2, 0.5])
    neutral = dict(brightness=0 * one, contrast=one, inverts=one < 0, hue=0 * one, saturation=one)
    apply = lambda **change: _color_matrix(**{**neutral, **change})[0].numpy() @ [*pixel, 1]  # noqa: E731
    grey, turned = np.full(3, pixel.mean()), Rotation.from_rotvec(0.8 * np.ones(3) / math.sqrt(3)).apply(pixel)
    some = dict(brightness=0.25 * one, contrast=1.5 * one, inverts=one > 0, saturation=0.4 * one, hue=0.8 * one)
    expected = dict(brightness=pixel + 0.25, contrast=1.5 * pixel, inverts=pixel - 2 * grey)
    expected |= dict(saturation=grey + 0.4 * (pixel - grey), hue=turned)
    for name, result in expected.items():
        np.testing.assert_allclose(apply(**{name: some[name]}), result, atol=1e-6)
    np.testing.assert_allclose(apply(**some), 0.6 * (turned - grey) - 1.5 * (grey + 0.25), atol=1e-6)
    hue, *others = colorsys.rgb_to_hsv(*pixel / 2 + 0.5)  # whose hue is the same angle for a third of a turn
    third = colorsys.hsv_to_rgb((hue + 1 / 3) % 1, *others)
    np.testing.assert_allclose(apply(hue=2 * math.pi / 3 * one), np.array(third) * 2 - 1, atol=1e-6)


def test_a_grey_image_is_changed_as_in_rgb():
    grey, results = noise_images()[:, :1], []
    for images in (grey, grey.expand(-1, 3, -1, -1)):
        torch.manual_seed(4)
        results.append(always(['blit', 'color'], 0.5)(images))
    assert results[0].shape == grey.shape and not torch.equal(results[0], grey)
    torch.testing.assert_close(results[0].expand(-1, 3, -1, -1), results[1], rtol=0, atol=1e-5)


def test_distribution_of_the_colors():
    ada, images = always(['color']), noise_images(20_000, 1)
    matrix = ada.draw_color(images).double()
    luma = matrix[:, 0, :3].sum(1)
    assert abs((luma < 0).double().mean() - 0.5) < 5 * 0.5 / math.sqrt(20_000)
    assert stats.kstest(luma.abs().log2(), stats.norm(0, 0.5).cdf).pvalue > 1e-4
    assert stats.kstest(matrix[:, 0, 3] / luma, stats.norm(0, 0.2).cdf).pvalue > 1e-4
    chroma = torch.linalg.det(matrix[:, :, :3]) / luma  # squared
    assert stats.kstest(chroma.log2() / 2 - luma.abs().log2(), stats.norm(0, 1).cdf).pvalue > 1e-4
    hue = torch.atan2((matrix[:, 0, 2] - matrix[:, 0, 1]) * math.sqrt(3), 3 * matrix[:, 0, 0] - luma)
    assert stats.kstest(hue, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-4


def test_diffaugment_moves_cuts_and_mirrors():
    images = noise_images(256)
    for image, moved in zip(images, DiffAugment('translation')(images)):
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        assert any(torch.equal(moved, padded[:, y : y + 16, x : x + 16]) for y in range(5) for x in range(5))
    is_cut = (DiffAugment('cutout')(images) == 0).all(1)
    rows, columns = is_cut.any(2), is_cut.any(1)
    assert torch.equal(is_cut, rows[:, :, None] & columns[:, None])
    for line in (rows, columns):
        length, first = line.sum(1), line.int().argmax(1)
        assert all(set(length[end].tolist()) == {4, 5, 6, 7, 8} for end in (first == 0, line[:, -1]))
        assert ((line.int().diff(dim=1) != 0).sum(1) <= 2).all()
        assert ((length == 8) | (first == 0) | line[:, -1]).all()  # a square beyond the edge is smaller
    is_flipped = (DiffAugment('flip')(images) == images.flip(3)).flatten(1).all(1)
    assert 80 < is_flipped.sum() < 176
    torch.manual_seed(1)
    both = DiffAugment('translation, cutout')(images)
    torch.manual_seed(1)
    assert torch.equal(both, DiffAugment('cutout')(DiffAugment('translation')(images)))


def test_diffaugment_colors():
    image = noise_images(1).double()
    grey, colored = image.mean(1, keepdim=True), DiffAugment('color')(image.expand(4000, -1, -1, -1))
    grey_after, mean, mean_after = colored.mean(1, keepdim=True), image.mean(), colored.mean((1, 2, 3), keepdim=True)
    contrast = ((grey_after - mean_after) / (grey - mean)).flatten(1)
    saturation = ((colored - grey_after) / (image - grey)).flatten(1) / contrast[:, :1]
    for each, uniform in ((contrast, (0.5, 1)), (saturation, (0, 2)), ((mean_after - mean).flatten(1), (-0.5, 1))):
        torch.testing.assert_close(each, each[:, :1].expand_as(each), rtol=1e-5, atol=1e-8)
        assert stats.kstest(each[:, 0], stats.uniform(*uniform).cdf).pvalue > 1e-4


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_without_probability_images_are_the_same_bits(dtype):
    images = noise_images().to(dtype)
    assert ADA()(images).equal(images)
    some = always(['geom', 'color'], 0.1)(images)
    same = (some == images).flatten(1).all(1)
    assert some.dtype == dtype and 0.25 < same.float().mean() < 0.65  # 0.9 ** 8 in the mean


@pytest.mark.parametrize('augment', [DiffAugment('color,translation,cutout,flip'), always(('blit', 'geom', 'color'))])
def test_gradients(augment):
    def seeded(images):
        torch.manual_seed(2)
        return augment(images)

    images = noise_images(2, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(seeded, images)
    images = images.detach().float()
    with torch.autocast('cpu', torch.bfloat16):
        result = seeded(images)
    assert torch.equal(result, seeded(images)) and not torch.equal(result, images)


@pytest.mark.parametrize('kind, options', [(DiffAugment, dict(policy='colour')), (ADA, dict(groups='blit'))])
def test_what_is_not_known(kind, options):
    with pytest.raises(ConfigError, match='policy.*colour|groups'):
        kind(**options)


def test_what_is_no_augmentation(gan_config):
    with pytest.raises(ConfigError, match='model.augment: HingeGANLoss'):
        MODELS.build(gan_config(augment=dict(type='HingeGANLoss')))


def test_real_and_fake_images_are_augmented_in_both_updates():
    class Recording(nn.Module):
        def forward(self, images):
            seen.append(images)
            return images * 0.5

    gan, seen, shown = tiny_gan(augment=dict(type=Recording)), [], []
    gan.discriminator.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    data = batch()
    gan.train_step(data, optimizers(gan))
    assert len(seen) == 3 and torch.equal(seen[0], gan.data_preprocessor(data)['inputs'])
    assert {float(each.detach().sum()) for each in shown} == {float((image * 0.5).sum()) for image in seen}


@pytest.mark.parametrize('parts', [1, 2])
def test_p_follows_the_sign_of_real_logits(parts):
    """As in the paper: 500 images per change of 1 here, every second iteration, towards a mean sign of 0.25."""
    gan = tiny_gan(augment=dict(type=ADA, interval=2, images=500, target=0.25))
    wrappers, p, expected = optimizers(gan, lr=0, accumulative_counts=parts), [], [0.0]
    nn.init.zeros_(gan.discriminator.linear.weight)
    for iteration in range(120):
        sign = 1 if iteration < 80 else -1
        # Of 8 images, six have positive logits at first, so that the mean sign is a half.
        gan.discriminator.embedding.weight.data[:, 0] = sign * torch.tensor([1.0, 1.0, -1.0])
        gan.discriminator.linear.bias.data.zero_()
        p.append(float(gan.train_step(batch(8), wrappers)['ada_p']))
        if iteration % 2:
            expected.append(min(max(expected[-1] + sign * 16 / 500, 0), 1))
    np.testing.assert_allclose(p, np.repeat(expected, 2)[1:-1], atol=1e-5)
    assert max(p) == 1 and 0.3 < p[-1] < 0.4


def test_a_skipped_update_is_not_counted(gan_config):
    gan, wrappers = build_skipping(gan_config, augment=dict(type=ADA, interval=1, images=8, target=-1.5))
    gan.train_step(batch(), wrappers)
    assert gan.augment.p == 0.5
    before = state_of(gan, wrappers)
    mend = [spoil(gan, name) for name in NETWORKS]
    gan.train_step(batch(), wrappers)
    assert not any('augment' in name for name in changed(before, state_of(gan, wrappers)))
    [remove() for remove in mend]
    other = copy.deepcopy(gan)
    other.load_state_dict(gan.state_dict())
    for each in (gan, other):
        torch.manual_seed(0)
        each.train_step(batch(), wrappers if each is gan else optimizers(each))
    assert gan.augment.p == other.augment.p == 1
