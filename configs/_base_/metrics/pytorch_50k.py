# pytorch-fid's Inception, which resizes by itself; IS over one split of 50 000 samples; FID of 50 000 samples to 50 000 random images of
# the training set. No published score was measured in this way.
inception = dict(fake_nums=50000, inception_style='PyTorch')

val_evaluator = test_evaluator = dict(
    type='Evaluator',
    metrics=[
        dict(type='InceptionScore', prefix='IS-PyTorch-50k', splits=1, resize=False, **inception),
        dict(type='FrechetInceptionDistance', prefix='FID-PyTorch-50k', real_nums=50000, **inception)
    ])
