# The paper's training: Adam with beta2 0.9, two time scales (TTUR), one update of D for one of G, a million iterations.
_base_ = '../gen_default_runtime.py'  # builds one optimizer a network

optim_wrapper = dict(
    generator=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.0, 0.9))),
    discriminator=dict(optimizer=dict(type='Adam', lr=4e-4, betas=(0.0, 0.9))))
train_cfg = dict(max_iters=1000000, dynamic_intervals=[(800000, 4000)])
auto_scale_lr = dict(enable=False, base_batch_size=256)
