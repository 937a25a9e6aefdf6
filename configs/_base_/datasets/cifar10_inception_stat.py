# CIFAR-10 for tools/utils/inception_stat.py: no augmentation; --subset val or test takes the test images.
_base_ = './cifar10_noaug.py'

val_dataloader = test_dataloader = dict(dataset=dict(test_mode=True))
