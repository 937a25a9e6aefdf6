# CIFAR-10, 32x32, without augmentation.
_base_ = './cifar10_nopad.py'

train_dataloader = dict(dataset=dict(pipeline=[dict(type='PackInputs')]))
