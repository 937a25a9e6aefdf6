# SNGAN with projection for 128x128 pixels: SAGAN's networks without attention, and without spectral norm in G.
_base_ = '../sagan/base_sagan_128x128.py'

model = dict(
    type='SNGAN',
    generator=dict(type='SNGANGenerator', attention_cfg=None, attention_after_nth_block=0, with_spectral_norm=False),
    discriminator=dict(attention_cfg=None, attention_after_nth_block=0),
    discriminator_steps=2)  # as in StudioGAN; an experiment that trains states its own
