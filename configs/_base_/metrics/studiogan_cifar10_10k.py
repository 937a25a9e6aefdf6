# As StudioGAN's scores of CIFAR-10 were measured (SAGAN: IS 8.680, FID 14.009): pytorch-fid's Inception on 10 000 samples that are not
# rounded to uint8, of a generator whose batch norms use the statistics of each batch (the data loader's 64); IS over one split; FID to
# the 10 000 test images.
protocol = dict(fake_nums=10000, inception_style='PyTorch', quantize=False)

val_evaluator = test_evaluator = dict(
    type='Evaluator',
    batch_statistics=True,
    metrics=[
        dict(type='InceptionScore', prefix='IS-StudioGAN-10k', splits=1, resize=False, **protocol),
        dict(
            type='FrechetInceptionDistance',
            prefix='FID-StudioGAN-10k',
            dataset=dict(test_mode=True),
            inception_pkl='work_dirs/inception_pkl/cifar10_test-PyTorch.pkl',
            **protocol)
    ])
