# SNGAN with projection for 32x32 pixels: SAGAN's networks without attention, and without spectral norm in G.
_base_ = '../sagan/base_sagan_32x32.py'

model = dict(
    type='SNGAN',
    generator=dict(type='SNGANGenerator', attention_cfg=None, attention_after_nth_block=0, with_spectral_norm=False),
    discriminator=dict(attention_cfg=None, attention_after_nth_block=0))
