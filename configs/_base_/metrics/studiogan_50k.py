# StudioGAN's pipeline: pytorch-fid's Inception, which resizes itself; IS over one split of 50 000 samples; FID of 50 000 samples to
# 50 000 random real images.
inception = dict(fake_nums=50000, inception_style='PyTorch')

val_evaluator = test_evaluator = dict(
    type='Evaluator',
    metrics=[
        dict(type='InceptionScore', prefix='IS-StudioGAN-50k', splits=1, resize=False, **inception),
        dict(type='FrechetInceptionDistance', prefix='FID-StudioGAN-50k', real_nums=50000, **inception)
    ])
