# Without self-attention.
_base_ = './sagan_32_feat16_fashion_b64x1.py'

model = dict(generator=dict(attention_after_nth_block=0), discriminator=dict(attention_after_nth_block=0))
