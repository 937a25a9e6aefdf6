# CIFAR-10 for tools/utils/inception_stat.py: no augmentation; --subset test takes the test images.
_base_ = './cifar10_noaug.py'

test_dataloader = dict(dataset=dict(test_mode=True))
