# Fashion-MNIST, padded to 32x32, flipped at random.
train_pipeline = [dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='FashionMNIST', image_size=32, pipeline=train_pipeline))
