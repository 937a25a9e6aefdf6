# As StudioGAN's scores of ImageNet were measured (SAGAN: IS 29.848, FID 34.726): pytorch-fid's Inception on 50 000 samples that are not
# rounded to uint8; IS over one split; FID to the 50 000 validation images.
protocol = dict(fake_nums=50000, inception_style='PyTorch', quantize=False)

val_evaluator = test_evaluator = dict(
    type='Evaluator',
    metrics=[
        dict(type='InceptionScore', prefix='IS-StudioGAN-50k', splits=1, resize=False, **protocol),
        dict(
            type='FrechetInceptionDistance',
            prefix='FID-StudioGAN-50k',
            dataset=dict(ann_file='meta/val.txt', data_prefix='val'),
            inception_pkl='work_dirs/inception_pkl/imagenet_val-PyTorch.pkl',
            **protocol)
    ])
