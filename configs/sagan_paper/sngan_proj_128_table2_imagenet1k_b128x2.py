# Table 2, SNGAN-projection: IS 36.8, intra-FID 92.4, FID 27.62 (the paper's FID is of weights that others have released). The published
# run's settings, with intra-FID beside IS and FID.
_base_ = [
    '../_base_/models/sngan_proj/base_sngan_proj_128x128.py',
    '../_base_/datasets/imagenet_128.py',
    '../_base_/schedules/sngan_proj_imagenet.py',
    '../_base_/metrics/our_50k_intra.py',
]

dist_step = 5
model = dict(discriminator_steps=dist_step)
train_cfg = dict(max_iters=500000 * dist_step, dynamic_intervals=[(800000, 4000)])
train_dataloader = dict(batch_size=128)
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
