"""Leaves in the shape of MMagic's SAGAN and SNGAN configs: its bases, types and keys, in a folder beside configs/sagan."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmsagan.apis import evaluate_from_config, init_model, train_from_config
from mmsagan.apis.experiment import use_mixed_precision
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError
from mmsagan.models import to_uint8
from mmsagan.registry import MODELS

CONFIGS = Path(__file__).parent.parent.parent / 'configs'
RUNTIME = '../_base_/gen_default_runtime.py'

METRICS = """
metrics = [
    dict(type='InceptionScore', prefix='IS-50k', fake_nums={nums}, inception_style='StyleGAN', sample_model='{model}'),
    dict(type='FrechetInceptionDistance', prefix='FID-Full-50k', fake_nums={nums}, inception_style='StyleGAN',
         inception_pkl='{folder}/real.pkl', sample_model='{model}'),
]
"""
TRAINING = """
_base_ = {bases}
steps = {steps}
init = dict(type='{init}')
model = dict({model})
train_cfg = dict(max_iters=100 * steps, val_interval=10000, dynamic_intervals=[(800, 40)])
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    generator=dict(optimizer=dict(type='Adam', lr=0.0001, betas=(0.0, 0.999))),
    discriminator=dict(optimizer=dict(type='Adam', lr=0.0004, betas=(0.0, 0.999))))
custom_hooks = [dict(type='VisualizationHook', interval=5000, fixed_input=True, vis_kwargs_list={pictures})]
default_hooks = dict(checkpoint=dict(save_best=['FID-Full-50k/fid', 'IS-50k/is'], rule=['less', 'greater']))
val_dataloader = test_dataloader = dict(batch_size=64)
val_evaluator = test_evaluator = dict(metrics=metrics)
"""
EVALUATION = """
_base_ = {bases}
model = dict({model})
train_cfg = train_dataloader = optim_wrapper = None
{validation}
test_dataloader = dict(batch_size=16)
test_evaluator = dict(metrics=metrics)
"""
ONE = "dict(type='GAN', name='fake_img')"
BOTH = "dict(type='Noise', name='fake_img', sample_model='ema/orig', target_keys=['ema.fake_img', 'orig.fake_img'])"
BOTH_NETWORKS = 'generator=dict({0}init_cfg=init), discriminator=dict({0}init_cfg=init)'

TRAINED = {
    'SAGAN, CIFAR-10': dict(
        bases=[RUNTIME, '../_base_/datasets/cifar10_nopad.py', '../_base_/models/sagan/base_sagan_32x32.py'],
        steps=5,
        init='studio',
        model="data_preprocessor=dict(output_channel_order='BGR'), "
        + BOTH_NETWORKS.format("act_cfg=dict(type='ReLU', inplace=True), "),
        pictures=ONE,
    ),
    'SAGAN, ImageNet, BigGAN schedule': dict(
        bases=[RUNTIME, '../_base_/models/sagan/base_sagan_128x128.py', '../_base_/datasets/imagenet_noaug_128.py'],
        steps=1,
        init='BigGAN',
        model='num_classes=1000, '
        'generator=dict(num_classes=1000, init_cfg=init, norm_eps=1e-5, sn_eps=1e-8, auto_sync_bn=False, '
        'with_embedding_spectral_norm=False), '
        'discriminator=dict(num_classes=1000, init_cfg=init, sn_eps=1e-8), '
        'discriminator_steps=1, ema_config=dict(interval=1, momentum=0.999, start_iter=2000)',
        pictures=BOTH,
    ),
    'SNGAN, ImageNet': dict(
        bases=['../_base_/models/sngan_proj/base_sngan_proj_128x128.py', '../_base_/datasets/imagenet_128.py', RUNTIME],
        steps=5,
        init='studio',
        model='num_classes=1000, discriminator_steps=steps, ' + BOTH_NETWORKS.format('num_classes=1000, '),
        pictures=ONE,
    ),
}
EVALUATED = {
    'SAGAN, CIFAR-10': dict(
        bases=[RUNTIME, '../_base_/datasets/cifar10_noaug.py', '../_base_/models/sagan/base_sagan_32x32.py'],
        model="data_preprocessor=dict(output_channel_order='BGR'), generator=dict(rgb_to_bgr=True)",
        validation='val_dataloader = val_evaluator = val_cfg = None',
    ),
    'SNGAN, CIFAR-10': dict(
        bases=['../_base_/models/sngan_proj/base_sngan_proj_32x32.py', '../_base_/datasets/cifar10_nopad.py',
               '../_base_/default_runtime.py'],
        model="data_preprocessor=dict(output_channel_order='BGR'), generator=dict(rgb_to_bgr=True)",
        validation='val_dataloader = dict(batch_size=16)\nval_evaluator = dict(metrics=metrics)',
    ),
}  # fmt: skip


@pytest.fixture
def leaf(tmp_path):
    """Writes a leaf beside a copy of configs/_base_: leaf(template, **what it says)."""
    shutil.copytree(CONFIGS / '_base_', tmp_path / 'configs' / '_base_')
    folder = tmp_path / 'configs' / 'mmagic_sagan'
    folder.mkdir()

    def write(template: str, nums: int = 20, sample_model: str = 'orig', **said) -> Path:
        text = METRICS.format(nums=nums, model=sample_model, folder=tmp_path) + template.format(**said)
        (folder / 'leaf.py').write_text(text)
        return folder / 'leaf.py'

    return write


def stand_ins(kind: str, file: str) -> dict:
    """Options that put a small extractor, and few real images, in the place of Inception and the whole training set."""
    paths = {f'{kind}_evaluator.metrics.{number}.inception_path': file for number in (0, 1)}
    return {**paths, f'{kind}_evaluator.metrics.1.real_nums': 30}


@pytest.mark.parametrize('kind', TRAINED)
def test_training_and_evaluating(kind, leaf, small_run, inception_file):
    said = TRAINED[kind]
    ema = 'ema_config' in said['model']
    path = leaf(TRAINING, sample_model='ema' if ema else 'orig', **said)
    options = {'train_cfg.val_interval': 2, 'model.discriminator_steps': 2, 'val_dataloader.num_workers': 0}
    if ema:
        options.update({'model.ema_config.start_iter': 0, 'model.discriminator_steps': 1})
    cfg = small_run(path, **options, **stand_ins('val', inception_file))
    runner = train_from_config(cfg)
    work_dir = Path(cfg.work_dir)
    found = {file.name for file in work_dir.glob('*.pth')}
    assert found == {'iter_2.pth', 'best_FID-Full-50k_fid_iter_2.pth', 'best_IS-50k_is_iter_2.pth'}
    pictures = sorted((work_dir / 'samples').iterdir())
    assert [file.name for file in pictures] == (['fake_img_ema_2.png', 'fake_img_orig_2.png'] if ema else ['fake_img_2.png'])
    assert pictures[0] == pictures[-1] or pictures[0].read_bytes() != pictures[1].read_bytes(), 'the average lags behind'
    assert set(runner.val_loop.results) == {'IS-50k/is', 'IS-50k/is_std', 'FID-Full-50k/fid'}
    cfg = small_run(path, **{'test_dataloader.num_workers': 0}, **stand_ins('test', inception_file))
    assert evaluate_from_config(cfg, str(work_dir / 'iter_2.pth')) == pytest.approx(runner.val_loop.results, rel=1e-4)


@pytest.mark.parametrize('kind', EVALUATED)
def test_evaluating_where_training_is_taken_out(kind, leaf, tmp_path, inception_file, cifar_root):
    options = {
        'dataset.data_root': str(cifar_root),
        'test_dataloader.num_workers': 0,
        'model.generator.base_channels': 8,
        'model.discriminator.base_channels': 8,
        **stand_ins('test', inception_file),
    }
    cfg = load_config(leaf(EVALUATION, **EVALUATED[kind]), options)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    cfg.launcher, cfg.work_dir, cfg.experiment_name = 'none', str(tmp_path / 'run'), f'test-mmagic-{kind}'
    results = evaluate_from_config(cfg, str(tmp_path / 'weights.pth'))
    assert set(results) == {'IS-50k/is', 'IS-50k/is_std', 'FID-Full-50k/fid'} and np.isfinite(list(results.values())).all()
    use_mixed_precision(cfg)
    with pytest.raises(ConfigError, match='train_dataloader'):
        train_from_config(cfg)


def test_bgr_config_and_bgr_checkpoint_make_rgb_images(leaf, fixture_of):
    """The reference is what MMagic's own code made of these weights, in its order, BGR."""
    reference = fixture_of('mmagic_32_wReLUinplace')
    cfg = load_config(
        leaf(TRAINING, **TRAINED['SAGAN, CIFAR-10']),
        {'model.generator.base_channels': 32, 'model.discriminator.base_channels': 16},
    )
    model = init_model(cfg, str(reference.path), device='cpu')
    reference.check(model)
    images = to_uint8(model.sample(reference.noise, reference.label))
    assert (images.int() - to_uint8(reference.images.flip(1)).int()).abs().max() <= 1
