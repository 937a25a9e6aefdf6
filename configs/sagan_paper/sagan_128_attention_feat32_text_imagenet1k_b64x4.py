# Attention on the 32x32 feature maps as the paper's text has it (equations 1 and 2): C/8 channels in queries, keys and values, and no
# pooling. The official code, and all other configs here, pool keys and values 2x2 and give the values C/2 channels.
_base_ = './sagan_128_attention_feat32_imagenet1k_b64x4.py'

attention = dict(value_reduction=8, pool=False)
model = dict(generator=dict(attention_cfg=attention), discriminator=dict(attention_cfg=attention))
