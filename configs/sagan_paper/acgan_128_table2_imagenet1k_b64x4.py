# Table 2, AC-GAN: IS 28.5, intra-FID 260.0. Its classifier head and losses on this project's networks without attention; the paper's
# numbers are of Odena et al.'s own, other networks.
_base_ = './sagan_128_table2_imagenet1k_b64x4.py'

model = dict(
    generator=dict(attention_after_nth_block=0),
    discriminator=dict(type='ACDiscriminator', attention_after_nth_block=0),
    auxiliary_loss=dict(type='AuxiliaryClassificationLoss'))
