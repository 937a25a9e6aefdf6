# SAGAN for 32x32 pixels: attention on the 16x16 feature maps of G and D.
model = dict(
    type='SAGAN',
    num_classes=10,
    data_preprocessor=dict(type='DataPreprocessor'),
    generator=dict(
        type='SAGANGenerator',
        output_scale=32,
        base_channels=256,
        attention_cfg=dict(type='SelfAttentionBlock'),
        attention_after_nth_block=2,
        with_spectral_norm=True,
        act_cfg=dict(type='ReLU', inplace=False),
        init_cfg=dict(type='studio')),
    discriminator=dict(
        type='ProjDiscriminator',
        input_scale=32,
        base_channels=128,
        attention_cfg=dict(type='SelfAttentionBlock'),
        attention_after_nth_block=1,
        with_spectral_norm=True,
        act_cfg=dict(type='ReLU', inplace=False),
        init_cfg=dict(type='studio')),
    gan_loss=dict(type='HingeGANLoss'),
    generator_steps=1,
    discriminator_steps=5)
