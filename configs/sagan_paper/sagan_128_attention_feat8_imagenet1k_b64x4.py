# Table 1, self-attention on the 8x8 feature maps: FID 22.98, IS 43.15.
_base_ = './sagan_128_noattention_imagenet1k_b64x4.py'

model = dict(generator=dict(attention_after_nth_block=1), discriminator=dict(attention_after_nth_block=4))
