# Evaluation only, of StudioGAN's CIFAR-10 weights by our pipeline. Published: IS 9.116 and FID 10.2011.
_base_ = [
    '../_base_/models/sagan/base_sagan_32x32.py',
    '../_base_/datasets/cifar10_noaug.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/our_50k.py',
]

# StudioGAN's activations work in place.
model = dict(generator=dict(act_cfg=dict(inplace=True)), discriminator=dict(act_cfg=dict(inplace=True)))
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/cifar10.pkl')
