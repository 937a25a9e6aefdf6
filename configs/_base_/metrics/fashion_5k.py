# Of Fashion-MNIST: a small extractor of clothes that comes with the package. Its numbers have nothing to do with Inception's, so the
# same numbers of the 10 000 test images stand beside them.
val_evaluator = test_evaluator = dict(
    type='Evaluator',
    metrics=[
        dict(type='InceptionScore', prefix='IS-fashion', fake_nums=5000, resize=False, inception_style='fashion'),
        dict(type='FrechetInceptionDistance', prefix='FID-fashion', fake_nums=5000, inception_style='fashion')
    ],
    held_out=dict(type='FashionMNIST', image_size=32, test_mode=True, pipeline=[dict(type='PackInputs')]))
