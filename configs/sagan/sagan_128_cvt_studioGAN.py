# Evaluation only, of StudioGAN's ImageNet weights. Published: IS 27.367 and FID 40.1162 by our pipeline, IS 29.848 and FID 34.726 by
# StudioGAN's.
_base_ = [
    '../_base_/models/sagan/base_sagan_128x128.py',
    '../_base_/datasets/imagenet_noaug_128.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/our_and_studiogan_50k.py',
]

# StudioGAN's activations work in place.
model = dict(generator=dict(act_cfg=dict(inplace=True)), discriminator=dict(act_cfg=dict(inplace=True)))
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
