# Published: IS 69.5350 and FID 12.8295, both at 826k iterations; 8 GPUs with 32 images each. BigGAN's schedule for SAGAN.
_base_ = [
    '../_base_/models/sagan/base_sagan_128x128.py',
    '../_base_/datasets/imagenet_noaug_128.py',
    '../_base_/schedules/sagan_imagenet.py',
    '../_base_/metrics/our_50k.py',
]

dist_step = 1
init_cfg = dict(type='BigGAN')
model = dict(
    generator=dict(
        init_cfg=init_cfg, norm_eps=1e-5, sn_eps=1e-8, auto_sync_bn=False, with_embedding_spectral_norm=False),
    discriminator=dict(init_cfg=init_cfg, sn_eps=1e-8),
    discriminator_steps=dist_step,
    ema_config=dict(momentum=0.999, interval=1, start_iter=2000, buffers='copy'))
train_cfg = dict(max_iters=1000000 * dist_step, dynamic_intervals=[(800000, 2000)])
train_dataloader = dict(batch_size=32)
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
