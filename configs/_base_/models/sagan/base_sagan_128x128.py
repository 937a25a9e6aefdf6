# SAGAN for 128x128 pixels: attention on the 64x64 feature maps of G and D.
_base_ = './base_sagan_32x32.py'

model = dict(
    num_classes=1000,
    generator=dict(output_scale=128, base_channels=64, attention_after_nth_block=4),
    discriminator=dict(input_scale=128, base_channels=64),
    discriminator_steps=1)
