"""The configs of configs/sagan, configs/sngan_proj and configs/sagan_paper against the published settings.

The table is written from the published runs and the paper's text. What a config is is read off what is built from it.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmsagan.engine.config import load_config
from mmsagan.models import ConditionalGAN, ResidualAttentionSubstitute, SelfAttentionBlock
from mmsagan.models.layers import blocks
from mmsagan.models.layers.blocks import ConditionalBatchNorm2d, DiscriminatorBlock
from mmsagan.models.layers.spectral_norm import spectral_norm_hook
from mmsagan.registry import MODELS

CONFIGS = Path(__file__).parent.parent.parent / 'configs'


@dataclass(frozen=True)
class Run:
    """A published run; pairs are of G and of D."""

    data: str
    batch: int  # on each GPU
    iterations: int  # updates of D
    lr: tuple[float, float]
    betas: tuple[float, float]
    dist_step: int = 1
    size: int = 128
    classes: int = 1000
    base: tuple[int, int] = (64, 64)
    init: str = 'studio'
    inplace: bool = False
    flip: bool = True
    crop: str | None = 'RandomCropLongEdge'
    attention: int | None = None  # the feature map's size, in pixels
    attention_kind: type = SelfAttentionBlock
    reductions: tuple[int, int] = (8, 2)
    pool: bool = True
    spectral_norm: tuple[bool, bool] = (True, True)
    embedding_spectral_norm: bool = True  # of G's; only where G's other layers have it
    sync_bn: bool = True
    norm_eps: float = 1e-4
    sn_eps: float = 1e-12
    ema: tuple | None = None  # decay, interval, start, what becomes of the running statistics
    classifies: bool = False  # D says the class, rather than projecting on it
    evaluations: tuple = (10_000, [(800_000, 4_000)])  # interval, and from an iteration on another one


CIFAR = Run(
    'CIFAR10', batch=64, iterations=500_000, lr=(2e-4, 2e-4), betas=(0.5, 0.999), dist_step=5, size=32, classes=10,
    base=(256, 128), crop=None, attention=16, evaluations=(10_000, None))  # fmt: skip
IMAGENET = Run('ImageNet', batch=64, iterations=1_000_000, lr=(1e-4, 4e-4), betas=(0.0, 0.999), attention=64)
SNGAN = dict(attention=None, spectral_norm=(False, True))
SNGAN_IMAGENET = replace(IMAGENET, batch=128, iterations=500_000 * 5, lr=(2e-4, 5e-5), dist_step=5, **SNGAN)
# The paper: SN in G and D, 1e-4 and 4e-4, Adam (0, 0.9), 64 images on each of 4 GPUs, 1:1. Its official code initializes by
# Xavier with scales of 1, keeps the class embeddings out of the spectral norm, and crops the centre without flipping.
PAPER = replace(
    IMAGENET, betas=(0.0, 0.9), init='SAGAN', embedding_spectral_norm=False, flip=False, crop='CenterCropLongEdge',
    attention=None)  # fmt: skip
EQUAL_RATES = dict(lr=(2e-4, 2e-4))

RUNS = {
    'sagan/sagan_32_woReLUinplace_cifar10_b64x1': CIFAR,
    'sagan/sagan_32_wReLUinplace_cifar10_b64x1': replace(CIFAR, inplace=True),
    'sagan/sagan_128_woReLUinplace_imagenet1k_b64x4': replace(IMAGENET, evaluations=(10_000, None)),
    'sagan/sagan_128_woReLUinplace_noaug_bigGAN_imagenet1k_b32x8': replace(
        IMAGENET, batch=32, init='BigGAN', flip=False, crop='CenterCropLongEdge', embedding_spectral_norm=False,
        sync_bn=False, norm_eps=1e-5, sn_eps=1e-8, ema=(0.999, 1, 2000, 'copy'), evaluations=(10_000, [(800_000, 2_000)])),
    'sngan_proj/sngan_proj_32_woReLUinplace_cifar10_b64x1': replace(CIFAR, **SNGAN),
    'sngan_proj/sngan_proj_32_wReLUinplace_cifar10_b64x1': replace(CIFAR, inplace=True, **SNGAN),
    'sngan_proj/sngan_proj_128_woReLUinplace_imagenet1k_b128x2': SNGAN_IMAGENET,
    'sngan_proj/sngan_proj_128_wReLUinplace_imagenet1k_b128x2': replace(SNGAN_IMAGENET, inplace=True),
    # section 5.1
    'sagan_paper/sagan_128_snD_imagenet1k_b64x4': replace(PAPER, spectral_norm=(False, True), **EQUAL_RATES),
    'sagan_paper/sagan_128_snD_5to1_imagenet1k_b64x4': replace(
        PAPER, spectral_norm=(False, True), dist_step=5, iterations=5_000_000,
        evaluations=(50_000, [(4_000_000, 20_000)]), **EQUAL_RATES),
    'sagan_paper/sagan_128_snGD_imagenet1k_b64x4': replace(PAPER, **EQUAL_RATES),
    # table 1
    'sagan_paper/sagan_128_noattention_imagenet1k_b64x4': PAPER,
    **{f'sagan_paper/sagan_128_attention_feat{size}_imagenet1k_b64x4': replace(PAPER, attention=size)
       for size in (8, 16, 32, 64)},
    'sagan_paper/sagan_128_attention_feat32_text_imagenet1k_b64x4': replace(
        PAPER, attention=32, reductions=(8, 8), pool=False),
    **{f'sagan_paper/sagan_128_residual_feat{size}_imagenet1k_b64x4':
       replace(PAPER, attention=size, attention_kind=ResidualAttentionSubstitute) for size in (8, 16, 32, 64)},
    # table 2
    'sagan_paper/sagan_128_table2_imagenet1k_b64x4': replace(PAPER, attention=64),
    'sagan_paper/sngan_proj_128_table2_imagenet1k_b128x2': SNGAN_IMAGENET,
    'sagan_paper/acgan_128_table2_imagenet1k_b64x4': replace(PAPER, classifies=True),
}  # fmt: skip
# StudioGAN's weights, which are evaluated only.
CONVERTED = {
    **dict.fromkeys(['sagan/sagan_32_cvt_studioGAN', 'sagan/sagan_32_cvt_studioGAN_10k'], replace(CIFAR, inplace=True)),
    **dict.fromkeys(['sagan/sagan_128_cvt_studioGAN', 'sagan/sagan_128_cvt_studioGAN_val50k'], replace(IMAGENET, inplace=True)),
}
NETWORKS = {**RUNS, **CONVERTED}
# Trainable parameters, as the facts have them (section 2): SAGAN with attention at 16 and at 64 pixels.
PARAMETERS = {32: (4_386_308, 1_075_586), 128: (42_017_412, 39_448_258)}


@cache
def load(name: str) -> Config:
    return load_config(CONFIGS / f'{name}.py')


@cache
def build(name: str) -> ConditionalGAN:
    """Builds a run's model at full width without memory."""
    with torch.device('meta'):
        return MODELS.build(load(name).model)


def attentions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, (SelfAttentionBlock, ResidualAttentionSubstitute))]


def num_parameters(name: str) -> tuple[int, int]:
    """Of G and of D."""
    model = build(name)
    return tuple(sum(parameter.numel() for parameter in net.parameters()) for net in (model.generator, model.discriminator))


def test_every_config_of_the_three_folders_is_in_the_table():
    paths = [path for name in ('sagan', 'sngan_proj', 'sagan_paper') for path in (CONFIGS / name).glob('*.py')]
    assert {f'{path.parent.name}/{path.stem}' for path in paths} == {*NETWORKS, 'sagan/sagan_32_mnist_b32x1'}, 'and the demo'


@pytest.mark.parametrize('name', RUNS)
def test_schedule_optimizers_evaluation_and_data(name):
    cfg, run = load(name), RUNS[name]
    assert (cfg.model.discriminator_steps, cfg.model.generator_steps) == (run.dist_step, 1)
    assert cfg.train_cfg.max_iters == run.iterations and not cfg.train_cfg.by_epoch
    assert (cfg.train_cfg.val_interval, cfg.train_cfg.get('dynamic_intervals')) == run.evaluations
    for network, lr in zip(('generator', 'discriminator'), run.lr):
        assert cfg.optim_wrapper[network].optimizer == dict(type='Adam', lr=lr, betas=run.betas)
    assert not cfg.param_scheduler and cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.interval, checkpoint.max_keep_ckpts, checkpoint.by_epoch) == (10_000, 20, False)
    gpus = int(name.rpartition('x')[2])
    assert name.endswith(f'_b{run.batch}x{gpus}') and cfg.auto_scale_lr.base_batch_size == run.batch * gpus

    score, fid = cfg.val_evaluator.metrics
    assert (score.type, fid.type) == ('InceptionScore', 'FrechetInceptionDistance')
    assert all((metric.fake_nums, metric.inception_style) == (50_000, 'StyleGAN') for metric in (score, fid))
    assert (score.splits, score.resize_method, score.use_pillow_resize, fid.real_nums) == (10, 'bicubic', True, -1)
    assert 'save_best' not in cfg.default_hooks.checkpoint, 'then both the best IS and the best FID are kept'

    loader = cfg.train_dataloader
    transforms = {transform.type: transform for transform in loader.dataset.pipeline}
    assert (loader.dataset.type, loader.batch_size) == (run.data, run.batch)
    assert loader.sampler == dict(type='InfiniteSampler', shuffle=True) and loader.drop_last
    assert ('RandomFlip' in transforms) == run.flip
    assert [kind for kind in transforms if kind.endswith('CropLongEdge')] == ([run.crop] if run.crop else [])
    if run.size == 128:
        assert (transforms['Resize'].scale, transforms['Resize'].backend) == ((128, 128), 'pillow')


@pytest.mark.parametrize('name', NETWORKS)
def test_networks_attention_and_spectral_norms(name):
    model, run = build(name), NETWORKS[name]
    generator, discriminator = model.generator, model.discriminator
    assert (generator.output_scale, discriminator.input_scale) == (run.size, run.size)
    assert model.num_classes == run.classes and type(model.gan_loss).__name__ == 'HingeGANLoss'
    assert (generator.to_rgb.conv.in_channels, discriminator.from_rgb.conv_1.out_channels) == run.base
    blocks = [module for module in discriminator.modules() if isinstance(module, DiscriminatorBlock)]
    assert all(block.shortcut_of_activation == run.inplace for block in blocks)
    cfg = load(name).model
    assert (cfg.discriminator_steps, cfg.generator_steps) == (run.dist_step, 1)
    assert [cfg[network].init_cfg.type for network in ('generator', 'discriminator')] == [run.init] * 2
    norms = [module for module in generator.modules() if isinstance(module, ConditionalBatchNorm2d)]
    assert {norm.weight_offset for norm in norms} == {0.0 if run.init == 'SAGAN' else 1.0}
    ema = model.ema
    statistics = 'copy' if ema and 'running_mean' in ema.copied else 'average'
    assert (ema and (ema.decay, ema.interval, ema.start_iter, statistics)) == run.ema
    for network, expected in zip((generator, discriminator), run.spectral_norm):
        layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        assert {spectral_norm_hook(layer) is not None for layer in layers} == {expected}
        found = attentions(network)
        assert [type(module) for module in found] == ([run.attention_kind] if run.attention else [])
        for module in found if run.attention_kind is SelfAttentionBlock else ():
            channels, queries, values = module.theta.in_channels, module.theta.out_channels, module.g.out_channels
            assert (channels // queries, channels // values, module.pool) == (*run.reductions, run.pool)
    embeddings = [embedding for norm in norms for embedding in (norm.weight_embedding, norm.bias_embedding)]
    has_norm = {spectral_norm_hook(embedding) is not None for embedding in embeddings}
    assert has_norm == {run.spectral_norm[0] and run.embedding_spectral_norm}
    head = model.discriminator.classifier if run.classifies else model.discriminator.proj_y
    assert spectral_norm_hook(head) is not None and (model.auxiliary_loss is not None) == run.classifies
    hooks = [spectral_norm_hook(module) for module in model.modules()]
    assert {hook.eps for hook in hooks if hook} == {run.sn_eps}


@pytest.mark.parametrize('name', RUNS)
def test_batch_norms_on_several_gpus(name, monkeypatch):
    run = RUNS[name]
    monkeypatch.setattr(blocks, 'is_distributed', lambda: True)
    monkeypatch.setattr(blocks, 'is_cuda_available', lambda: True)
    with torch.device('meta'):
        generator = MODELS.build(dict(load(name).model.generator, num_classes=2))
    norms = [module for module in generator.modules() if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm))]
    kind = nn.SyncBatchNorm if run.sync_bn else nn.BatchNorm2d
    assert norms and all(type(norm) is kind and norm.eps == run.norm_eps for norm in norms)


@pytest.mark.parametrize('name', [name for name, run in NETWORKS.items() if run.attention])
def test_attention_sees_the_same_size_in_both_networks(name):
    """The sizes are those of the feature maps that pass through, whatever the blocks' numbers."""
    cfg, run, sizes = deepcopy(load(name).model), NETWORKS[name], []
    cfg.generator.base_channels = cfg.discriminator.base_channels = 8
    cfg.num_classes = 2
    model = MODELS.build(cfg).eval()
    for network in (model.generator, model.discriminator):
        attentions(network)[0].register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    label = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        model.discriminator(model.generator(torch.randn(1, model.noise_size), label=label), label)
    assert sizes == [(run.attention, run.attention)] * 2


@pytest.mark.parametrize('name', [name for name, run in NETWORKS.items() if run.attention == (16 if run.size == 32 else 64)])
def test_the_published_numbers_of_parameters(name):
    assert num_parameters(name) == PARAMETERS[NETWORKS[name].size]


@pytest.mark.parametrize('size', [8, 16, 32, 64])
def test_table_1_compares_models_of_equal_size(size):
    names = [f'sagan_paper/sagan_128_{kind}_feat{size}_imagenet1k_b64x4' for kind in ('attention', 'residual')]
    assert num_parameters(names[0]) == num_parameters(names[1])


def test_table_2_has_intra_fid_at_the_end_only():
    names = [name for name in RUNS if 'table2' in name]
    assert len(names) == 3
    for name in names:
        cfg = load(name)
        kinds = [[metric.type for metric in evaluator.metrics] for evaluator in (cfg.val_evaluator, cfg.test_evaluator)]
        assert kinds[0] == ['InceptionScore', 'FrechetInceptionDistance'] and kinds[1] == [*kinds[0], 'IntraFID']
        assert all(metric.fake_nums == 50_000 for metric in cfg.test_evaluator.metrics)
