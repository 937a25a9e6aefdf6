# SAGAN for 128x128 pixels: attention on the 64x64 feature maps of G and D.
model = dict(
    type='SAGAN',
    num_classes=1000,
    data_preprocessor=dict(type='DataPreprocessor'),
    generator=dict(
        type='SAGANGenerator',
        output_scale=128,
        base_channels=64,
        attention_cfg=dict(type='SelfAttentionBlock'),
        attention_after_nth_block=4,
        with_spectral_norm=True,
        act_cfg=dict(type='ReLU', inplace=False),
        init_cfg=dict(type='studio')),
    discriminator=dict(
        type='ProjDiscriminator',
        input_scale=128,
        base_channels=64,
        attention_cfg=dict(type='SelfAttentionBlock'),
        attention_after_nth_block=1,
        with_spectral_norm=True,
        act_cfg=dict(type='ReLU', inplace=False),
        init_cfg=dict(type='studio')),
    gan_loss=dict(type='HingeGANLoss'),
    generator_steps=1,
    discriminator_steps=1)
