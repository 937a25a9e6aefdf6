# "Our pipeline", by which the published scores were measured: Tero Karras' Inception; IS over ten splits of 50 000 samples, which
# Pillow resizes; FID of 50 000 samples, as they are, to the whole training set.
inception = dict(fake_nums=50000, inception_style='StyleGAN')

val_evaluator = test_evaluator = dict(
    type='Evaluator',
    metrics=[
        dict(type='InceptionScore', prefix='IS-50k', splits=10, resize_method='bicubic', use_pillow_resize=True, **inception),
        dict(type='FrechetInceptionDistance', prefix='FID-Full-50k', real_nums=-1, **inception)
    ])
