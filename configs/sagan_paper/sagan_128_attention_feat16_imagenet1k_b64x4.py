# Table 1, self-attention on the 16x16 feature maps: FID 22.14, IS 45.94.
_base_ = './sagan_128_noattention_imagenet1k_b64x4.py'

model = dict(generator=dict(attention_after_nth_block=2), discriminator=dict(attention_after_nth_block=3))
