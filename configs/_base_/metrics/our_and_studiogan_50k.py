# Both pipelines, our_50k.py and studiogan_50k.py, over the same samples.
_base_ = './our_50k.py'

pytorch = dict(fake_nums=50000, inception_style='PyTorch')

val_evaluator = test_evaluator = dict(
    metrics=_base_.test_evaluator.metrics + [
        dict(type='InceptionScore', prefix='IS-StudioGAN-50k', splits=1, resize=False, **pytorch),
        dict(type='FrechetInceptionDistance', prefix='FID-StudioGAN-50k', real_nums=50000, **pytorch)
    ])
