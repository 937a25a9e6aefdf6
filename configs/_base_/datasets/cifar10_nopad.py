# CIFAR-10, 32x32, flipped at random.
# Which images: of the training, and of an evaluation that has no train_dataloader to go by.
dataset = dict(type='CIFAR10', data_root='data', data_prefix='cifar10')
train_pipeline = [dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='mmsagan.collate_batch'),
    dataset=dict(pipeline=train_pipeline, **dataset))

# The real images of an evaluation: the training set, without augmentation. What is not stated is as in train_dataloader.
val_dataloader = test_dataloader = dict(batch_size=64, num_workers=2, dataset=dict(pipeline=[dict(type='PackInputs')]))
