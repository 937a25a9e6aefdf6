# One learning rate for both networks, the geometric mean of the two.
_base_ = './sagan_32_feat16_fashion_b64x1.py'

optim_wrapper = dict(generator=dict(optimizer=dict(lr=4e-4)), discriminator=dict(optimizer=dict(lr=4e-4)))
