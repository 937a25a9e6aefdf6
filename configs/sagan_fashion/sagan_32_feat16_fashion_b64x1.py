# The paper's comparisons at a size for one machine: SAGAN on Fashion-MNIST, self-attention on the 16x16 feature maps of G and D,
# spectral norm in both, two learning rates. The other configs of this folder each take one of these away.
_base_ = [
    '../_base_/models/sagan/base_sagan_32x32.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/gen_default_runtime.py',
    '../_base_/metrics/fashion_5k.py',
]

dist_step = 1
model = dict(
    generator=dict(base_channels=32),
    discriminator=dict(base_channels=64),
    discriminator_steps=dist_step,
    ema_config=dict(momentum=0.99))
optim_wrapper = dict(
    type='BFloat16OptimWrapper',
    dtype='auto',
    generator=dict(optimizer=dict(type='Adam', lr=2e-4, betas=(0.0, 0.9))),
    discriminator=dict(optimizer=dict(type='Adam', lr=8e-4, betas=(0.0, 0.9))))
train_cfg = dict(max_iters=20000 * dist_step, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=2))
