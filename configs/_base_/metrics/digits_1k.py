# The demo's: a small extractor for digits that comes with the package. Its numbers have nothing to do with Inception's, so the
# same numbers of 1 000 held-out real digits stand beside them.
val_evaluator = test_evaluator = dict(
    type='Evaluator',
    metrics=[
        dict(type='InceptionScore', prefix='IS-digits', fake_nums=1000, resize=False, inception_style='digits'),
        dict(type='FrechetInceptionDistance', prefix='FID-digits', fake_nums=1000, inception_style='digits'),
        dict(type='PrecisionRecall', prefix='PR-digits', fake_nums=1000, real_nums=1000, inception_style='digits')
    ],
    held_out=dict(type='EmbeddedMNIST', image_size=32, split='test', pipeline=[dict(type='PackInputs')]))
