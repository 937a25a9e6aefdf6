# ImageNet at 128x128 for tools/utils/inception_stat.py: no augmentation; --subset test takes the validation images.
_base_ = './imagenet_noaug_128.py'

test_dataloader = dict(dataset=dict(ann_file='meta/val.txt', data_prefix='val'))
