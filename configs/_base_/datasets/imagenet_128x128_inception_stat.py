# ImageNet at 128x128 for tools/utils/inception_stat.py: no augmentation; --subset val or test takes the validation images.
_base_ = './imagenet_noaug_128.py'

val_dataloader = test_dataloader = dict(dataset=dict(ann_file='meta/val.txt', data_prefix='val'))
