# Evaluation only, of StudioGAN's ImageNet weights by our pipeline. Published: IS 27.367 and FID 40.1162.
_base_ = [
    '../_base_/models/sagan/base_sagan_128x128.py',
    '../_base_/datasets/imagenet_noaug_128.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/our_50k.py',
]

# StudioGAN's activations work in place.
model = dict(generator=dict(act_cfg=dict(inplace=True)), discriminator=dict(act_cfg=dict(inplace=True)))
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
