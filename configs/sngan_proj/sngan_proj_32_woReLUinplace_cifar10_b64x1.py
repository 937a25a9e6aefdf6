# SNGAN with projection on CIFAR-10, the settings of the published SAGAN run.
_base_ = [
    '../_base_/models/sngan_proj/base_sngan_proj_32x32.py',
    '../_base_/datasets/cifar10_nopad.py',
    '../_base_/schedules/sagan_cifar10.py',
    '../_base_/metrics/our_50k.py',
]

# Updates of D for one of G; an iteration is one update of D.
dist_step = 5
model = dict(discriminator_steps=dist_step)
train_cfg = dict(max_iters=100000 * dist_step)
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/cifar10.pkl')
