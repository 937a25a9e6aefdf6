# The demo: a small SAGAN that learns 4 000 embedded MNIST digits on two CPU cores within minutes.
_base_ = [
    '../_base_/models/sagan/base_sagan_32x32.py',
    '../_base_/datasets/mnist.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/digits_1k.py',
    '../_base_/regularizers/r1.py',
    '../_base_/regularizers/topk.py',
]

# Fewer channels where there are more pixels. The noise in G's norms, top-k updates and R1 make the digits of a class more varied.
model = dict(
    generator=dict(
        base_channels=32, channels_cfg=[8, 4, 2], with_spectral_norm=False, with_embedding_spectral_norm=True, noise_in_norms=True),
    discriminator=dict(base_channels=16, channels_cfg=[4, 8, 8], downsample_cfg=[True, True, False]),
    regularizers=dict(
        r1=dict(_base_.r1, gamma=0.3),
        topk=dict(_base_.topk, fraction=0.3, decay=0.95, decay_iters=50)),
    discriminator_steps=1,
    ema_config=dict(momentum=0.99))
optim_wrapper = dict(
    type='BFloat16OptimWrapper', dtype='auto',
    generator=dict(optimizer=dict(type='Adam', lr=5e-4, betas=(0.0, 0.99))),
    discriminator=dict(optimizer=dict(type='Adam', lr=1e-3, betas=(0.0, 0.99))))
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_iters=3000, val_interval=500)
param_scheduler = [dict(type='LinearLR', start_factor=1.0, end_factor=0.05, begin=1500, end=3000, by_epoch=False)]
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=500, max_keep_ckpts=2))
custom_hooks = [
    dict(type='VisualizationHook', interval=250, vis_kwargs_list=dict(type='GAN', name='digits')),
    dict(type='AttentionVisualizationHook', classes=[0, 2, 3, 5, 8])]
