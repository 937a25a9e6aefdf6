# ImageNet at 128x128: the centre square, without augmentation.
_base_ = './imagenet_128.py'

train_dataloader = dict(dataset=dict(pipeline={{_base_.val_pipeline}}))
