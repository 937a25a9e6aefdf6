# Evaluation only, of StudioGAN's CIFAR-10 weights by StudioGAN's protocol. Published: IS 8.680 and FID 14.009.
_base_ = [
    '../_base_/models/sagan/base_sagan_32x32.py',
    '../_base_/datasets/cifar10_noaug.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/studiogan_cifar10_10k.py',
]

# StudioGAN's activations work in place.
model = dict(generator=dict(act_cfg=dict(inplace=True)), discriminator=dict(act_cfg=dict(inplace=True)))
