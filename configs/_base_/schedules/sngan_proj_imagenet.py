# Adam as in the published SNGAN runs on ImageNet, whose D learns the slower.
_base_ = '../gen_default_runtime.py'  # builds one optimizer a network

optim_wrapper = dict(
    generator=dict(optimizer=dict(type='Adam', lr=2e-4, betas=(0.0, 0.999))),
    discriminator=dict(optimizer=dict(type='Adam', lr=5e-5, betas=(0.0, 0.999))))
auto_scale_lr = dict(enable=False, base_batch_size=256)
