# ImageNet at 128x128: a square cropped at random from the long edge, flipped at random.
# Which images: of the training, and of an evaluation that has no train_dataloader to go by.
dataset = dict(type='ImageNet', data_root='data/imagenet', ann_file='meta/train.txt', data_prefix='train')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCropLongEdge'),
    dict(type='Resize', scale=(128, 128), backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs')
]

train_dataloader = dict(
    batch_size=64,
    num_workers=5,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(pipeline=train_pipeline, **dataset))

# The real images of an evaluation: the training set, without augmentation. What is not stated is as in train_dataloader.
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterCropLongEdge'),
    dict(type='Resize', scale=(128, 128), backend='pillow'),
    dict(type='PackInputs')
]
val_dataloader = test_dataloader = dict(batch_size=64, num_workers=5, dataset=dict(pipeline=val_pipeline))
