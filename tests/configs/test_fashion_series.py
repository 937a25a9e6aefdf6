"""configs/sagan_fashion: each config takes one thing of the paper away, and nothing else differs."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmsagan.engine.config import load_config
from mmsagan.models import SelfAttentionBlock
from mmsagan.models.layers.spectral_norm import spectral_norm_hook
from mmsagan.registry import MODELS

FOLDER = Path(__file__).parent.parent.parent / 'configs/sagan_fashion'
# Spectral norm in G and in D, attention, learning rates of G and of D.
SERIES = {
    'feat16': ((True, True), True, (2e-4, 8e-4)),
    'no-attention': ((True, True), False, (2e-4, 8e-4)),
    'sn-D': ((False, True), True, (2e-4, 8e-4)),
    'equal-lr': ((True, True), True, (4e-4, 4e-4)),
}


def load(variant: str):
    return load_config(FOLDER / f'sagan_32_{variant}_fashion_b64x1.py')


def test_the_folder_holds_the_series():
    assert {path.stem for path in FOLDER.glob('*.py')} == {f'sagan_32_{variant}_fashion_b64x1' for variant in SERIES}


@pytest.mark.parametrize('variant', SERIES)
def test_what_each_variant_is(variant):
    cfg, (spectral_norm, attention, rates) = load(variant), SERIES[variant]
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    for network, has_norm in zip((model.generator, model.discriminator), spectral_norm):
        layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        assert {spectral_norm_hook(layer) is not None for layer in layers} == {has_norm}
        assert any(isinstance(module, SelfAttentionBlock) for module in network.modules()) == attention
    for network, lr in zip(('generator', 'discriminator'), rates):
        assert cfg.optim_wrapper[network].optimizer == dict(type='Adam', lr=lr, betas=(0.0, 0.9))


def test_what_they_share():
    cfg = load('feat16')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert (model.generator.output_scale, model.num_classes, cfg.train_dataloader.batch_size) == (32, 10, 64)
    assert cfg.train_dataloader.dataset.type == 'FashionMNIST'
    assert (model.generator.to_rgb.conv.in_channels, model.discriminator.from_rgb.conv_1.out_channels) == (32, 64)
    assert (cfg.model.discriminator_steps, cfg.model.generator_steps, model.ema.decay) == (1, 1, 0.99)
    assert type(model.gan_loss).__name__ == 'HingeGANLoss' and cfg.model.generator.init_cfg.type == 'studio'
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (20_000, 500)
    metrics = [(metric.type, metric.inception_style, metric.fake_nums) for metric in cfg.val_evaluator.metrics]
    assert metrics == [('InceptionScore', 'fashion', 5000), ('FrechetInceptionDistance', 'fashion', 5000)]


@pytest.mark.parametrize('variant', SERIES)
def test_nothing_else_differs(variant):
    cfgs = [load(name).to_dict() for name in ('feat16', variant)]
    for cfg in cfgs:
        for network in ('generator', 'discriminator'):
            for key in ('attention_after_nth_block', 'with_spectral_norm'):
                cfg['model'][network].pop(key)
            cfg['optim_wrapper'][network]['optimizer'].pop('lr')
    assert cfgs[0] == cfgs[1]


def test_attention_sees_16_pixels_in_both_networks():
    model = MODELS.build(load('feat16').model).eval()
    sizes = []
    for network in (model.generator, model.discriminator):
        block = next(module for module in network.modules() if isinstance(module, SelfAttentionBlock))
        block.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    label = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        model.discriminator(model.generator(torch.randn(1, model.noise_size), label=label), label)
    assert sizes == [(16, 16)] * 2
