# Published: IS 9.2286 at 380k iterations, FID 10.7781 at 460k.
_base_ = './sagan_32_woReLUinplace_cifar10_b64x1.py'

# In G the activation's place changes nothing; in D the shortcuts see the activated features.
model = dict(generator=dict(act_cfg=dict(inplace=True)), discriminator=dict(act_cfg=dict(inplace=True)))
