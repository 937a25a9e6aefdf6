# ImageNet at 128x128: the centre square, without augmentation.
_base_ = './imagenet_128.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterCropLongEdge'),
    dict(type='Resize', scale=(128, 128), backend='pillow'),
    dict(type='PackInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
