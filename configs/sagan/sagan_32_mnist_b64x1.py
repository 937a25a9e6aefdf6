# The demo: a small SAGAN that learns 4 000 embedded MNIST digits on two CPU cores within minutes.
_base_ = [
    '../_base_/models/sagan/base_sagan_32x32.py',
    '../_base_/datasets/mnist.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/digits_1k.py',
]

dist_step = 1
model = dict(
    generator=dict(base_channels=32),
    discriminator=dict(base_channels=64),
    discriminator_steps=dist_step,
    ema_config=dict(momentum=0.99))
optim_wrapper = dict(
    type='BFloat16OptimWrapper', dtype='auto',
    generator=dict(optimizer=dict(type='Adam', lr=5e-4, betas=(0.0, 0.99))),
    discriminator=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.0, 0.99))))
train_cfg = dict(max_iters=900 * dist_step, val_interval=300)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.1, begin=600 * dist_step, end=900 * dist_step, by_epoch=False)]
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=300, max_keep_ckpts=2))
custom_hooks = [
    dict(type='VisualizationHook', interval=100, vis_kwargs_list=dict(type='GAN', name='digits')),
    dict(type='AttentionVisualizationHook', classes=[0, 2, 3, 5, 8])]
