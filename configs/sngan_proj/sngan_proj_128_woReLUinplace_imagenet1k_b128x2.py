# SNGAN with projection on ImageNet; 2 GPUs with 128 images each.
_base_ = [
    '../_base_/models/sngan_proj/base_sngan_proj_128x128.py',
    '../_base_/datasets/imagenet_128.py',
    '../_base_/schedules/sngan_proj_imagenet.py',
    '../_base_/metrics/our_50k.py',
]

dist_step = 5
model = dict(discriminator_steps=dist_step)
train_cfg = dict(max_iters=500000 * dist_step, dynamic_intervals=[(800000, 4000)])
train_dataloader = dict(batch_size=128)
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
