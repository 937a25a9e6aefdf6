"""Every training config: its hyper-parameters against the published runs, its length, and two iterations from its own file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmsagan.apis.train import train_from_config
from mmsagan.engine.config import complete_evaluation, load_config
from mmsagan.engine.config_check import check_config
from mmsagan.models.layers import ConditionalBatchNorm2d
from mmsagan.models.layers import norm as norm_module
from mmsagan.models.layers.spectral_norm import spectral_norm_hook
from mmsagan.registry import MODELS

CONFIGS = Path(__file__).parent.parent.parent / 'configs'
LEAVES = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name != '_base_')
EVALUATED_ONLY = ('sagan_32_cvt_studioGAN', 'sagan_128_cvt_studioGAN')
TRAINED = [path for path in LEAVES if path.stem not in EVALUATED_ONLY]

# The table of the published runs (shared facts, section 1). SN and BN epsilons, SyncBN and EMA from the notes below it.
PUBLISHED = {
    'sagan_32_woReLUinplace_cifar10_b64x1': dict(
        data='CIFAR10', inplace=False, dist_step=5, batch=64, iterations=500_000, lr=(2e-4, 2e-4), betas=(0.5, 0.999),
        init='studio', flip=True, crop=None, size=32, classes=10, base=(256, 128)),
    'sagan_32_wReLUinplace_cifar10_b64x1': dict(
        data='CIFAR10', inplace=True, dist_step=5, batch=64, iterations=500_000, lr=(2e-4, 2e-4), betas=(0.5, 0.999),
        init='studio', flip=True, crop=None, size=32, classes=10, base=(256, 128)),
    'sagan_128_woReLUinplace_imagenet1k_b64x4': dict(
        data='ImageNet', inplace=False, dist_step=1, batch=64, iterations=1_000_000, lr=(1e-4, 4e-4), betas=(0.0, 0.999),
        init='studio', flip=True, crop='RandomCropLongEdge', size=128, classes=1000, base=(64, 64)),
    'sagan_128_woReLUinplace_noaug_bigGAN_imagenet1k_b32x8': dict(
        data='ImageNet', inplace=False, dist_step=1, batch=32, iterations=1_000_000, lr=(1e-4, 4e-4), betas=(0.0, 0.999),
        init='BigGAN', flip=False, crop='CenterCropLongEdge', size=128, classes=1000, base=(64, 64), biggan=True),
}


def load(name: str) -> Config:
    return load_config(CONFIGS / 'sagan' / f'{name}.py')


@pytest.mark.parametrize('name', PUBLISHED)
def test_hyper_parameters_of_the_published_runs(name):
    cfg, row = load(name), PUBLISHED[name]
    generator, discriminator = cfg.model.generator, cfg.model.discriminator
    loader = cfg.train_dataloader
    transforms = {transform.type: transform for transform in loader.dataset.pipeline}
    assert cfg.dist_step == cfg.model.discriminator_steps == row['dist_step'] and cfg.model.generator_steps == 1
    assert (cfg.train_cfg.max_iters, loader.batch_size) == (row['iterations'], row['batch'])
    assert loader.dataset.type == row['data'] and loader.sampler == dict(type='InfiniteSampler', shuffle=True)
    assert ('RandomFlip' in transforms) == row['flip']
    assert [kind for kind in transforms if kind.endswith('CropLongEdge')] == ([row['crop']] if row['crop'] else [])
    if row['size'] == 128:
        assert transforms['Resize'].scale == (128, 128) and transforms['Resize'].backend == 'pillow'
    for network, lr, base in zip((generator, discriminator), row['lr'], row['base']):
        optimizer = cfg.optim_wrapper['generator' if network is generator else 'discriminator'].optimizer
        assert optimizer == dict(type='Adam', lr=lr, betas=row['betas'])
        assert network.act_cfg == dict(type='ReLU', inplace=row['inplace'])
        assert network.init_cfg.type == row['init'] and network.base_channels == base
    assert (generator.output_scale, discriminator.input_scale) == (row['size'], row['size'])
    assert cfg.model.num_classes == row['classes'] and cfg.model.gan_loss.type == 'HingeGANLoss'
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.interval, checkpoint.max_keep_ckpts, checkpoint.by_epoch) == (10_000, 20, False)
    assert cfg.train_cfg.val_interval == 10_000
    assert cfg.train_cfg.get('dynamic_intervals') == ([(800_000, 4_000)] if row['size'] == 128 else None)


@pytest.mark.parametrize('name', PUBLISHED)
def test_epsilons_norms_and_ema_of_the_built_model(name, monkeypatch):
    cfg, biggan = load(name), PUBLISHED[name].get('biggan', False)
    cfg.model.generator.base_channels = cfg.model.discriminator.base_channels = 8
    monkeypatch.setattr(norm_module, 'is_distributed', lambda: True)
    monkeypatch.setattr(norm_module, 'is_cuda_available', lambda: True)
    model = MODELS.build(cfg.model)
    kind = torch.nn.BatchNorm2d if biggan else torch.nn.SyncBatchNorm
    norms = [m for m in model.generator.modules() if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm))]
    assert norms and all(type(m) is kind and m.eps == (1e-5 if biggan else 1e-4) for m in norms)
    hooks = [spectral_norm_hook(m) for m in model.modules()]
    assert {hook.eps for hook in hooks if hook} == {1e-8 if biggan else 1e-12}
    embeddings = [m.weight_embedding for m in model.generator.modules() if isinstance(m, ConditionalBatchNorm2d)]
    assert all((spectral_norm_hook(embedding) is None) == biggan for embedding in embeddings)
    assert all(spectral_norm_hook(m) for network in (model.generator, model.discriminator) for m in network.modules()
               if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)))
    if biggan:
        assert (model.ema.decay, model.ema.interval, model.ema.start_iter) == (0.999, 1, 2000)
    else:
        assert model.ema is None


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_leaves_are_short_and_sound(path):
    assert len(path.read_text().splitlines()) <= 25
    cfg = load_config(path)
    complete_evaluation(cfg, 'test')
    check_config(cfg, training=path in TRAINED)


def test_the_inplace_variant_differs_in_one_setting():
    lines = (CONFIGS / 'sagan' / 'sagan_32_wReLUinplace_cifar10_b64x1.py').read_text().splitlines()
    code = [line for line in lines if line and not line.startswith('#')]
    assert len(code) == 2 and code[0].startswith('_base_')


@pytest.fixture(scope='module')
def imagenet1k_root(tmp_path_factory) -> Path:
    """ImageNet's layout with all 1 000 classes, an image each, without meta/train.txt."""
    root = tmp_path_factory.mktemp('imagenet1k')
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for number in range(1000):
        folder = root / 'train' / f'n{number:08d}'
        folder.mkdir(parents=True)
        image.save(folder / f'n{number:08d}_0.JPEG')
    return root


@pytest.mark.parametrize('path', TRAINED, ids=lambda path: path.stem)
def test_two_iterations_from_its_own_file(path, tmp_path, cifar_root, imagenet1k_root):
    """Only data root, batch size, width and iterations are changed."""
    root = {'CIFAR10': cifar_root, 'ImageNet': imagenet1k_root, 'EmbeddedMNIST': ''}
    cfg = load_config(path)
    cfg.merge_from_dict(
        {
            'train_dataloader.dataset.data_root': str(root[cfg.train_dataloader.dataset.type]),
            'train_dataloader.batch_size': 4,
            'model.generator.base_channels': 8,
            'model.discriminator.base_channels': 8,
            'train_cfg.max_iters': 2,
        }
    )
    cfg.launcher, cfg.work_dir, cfg.experiment_name = 'none', str(tmp_path / 'run'), f'test-{path.stem}'
    runner = train_from_config(cfg)
    assert runner.iter == 2 and (tmp_path / 'run' / 'iter_2.pth').is_file()
    assert list((tmp_path / 'run' / 'samples').glob('*_2.png'))


@pytest.mark.parametrize('path', sorted((CONFIGS / '_base_' / 'datasets').glob('*.py')), ids=lambda path: path.stem)
def test_every_data_base_fits_into_an_experiment(path, tmp_path):
    bases = [path, CONFIGS / '_base_/models/sagan/base_sagan_32x32.py', CONFIGS / '_base_/schedules/sagan_cifar10.py']
    (tmp_path / 'config.py').write_text(f'_base_ = {[str(base) for base in bases]}\ntrain_cfg = dict(max_iters=1)\n')
    check_config(load_config(tmp_path / 'config.py'))
