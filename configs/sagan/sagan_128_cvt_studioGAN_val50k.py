# Evaluation only, of StudioGAN's ImageNet weights by StudioGAN's protocol. Published: IS 29.848 and FID 34.726.
_base_ = [
    '../_base_/models/sagan/base_sagan_128x128.py',
    '../_base_/datasets/imagenet_noaug_128.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/studiogan_imagenet_50k.py',
]

# StudioGAN's activations work in place.
model = dict(generator=dict(act_cfg=dict(inplace=True)), discriminator=dict(act_cfg=dict(inplace=True)))
