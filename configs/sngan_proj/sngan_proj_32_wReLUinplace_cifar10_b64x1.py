_base_ = './sngan_proj_32_woReLUinplace_cifar10_b64x1.py'

# In G the activation's place changes nothing; in D the shortcuts see the activated features.
model = dict(generator=dict(act_cfg=dict(inplace=True)), discriminator=dict(act_cfg=dict(inplace=True)))
