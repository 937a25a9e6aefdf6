# Published: IS 31.5938 at 980k iterations, FID 34.7838 at 950k; 4 GPUs with 64 images each.
_base_ = [
    '../_base_/models/sagan/base_sagan_128x128.py',
    '../_base_/datasets/imagenet_128.py',
    '../_base_/schedules/sagan_imagenet.py',
    '../_base_/metrics/our_50k.py',
]

dist_step = 1
model = dict(discriminator_steps=dist_step)
train_cfg = dict(max_iters=1000000 * dist_step)  # evaluated every 10 000 iterations
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
