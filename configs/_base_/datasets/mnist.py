# MNIST digits that come with the package, padded to 32x32: 4 000 of the 5 000, the others are held out.
# Which images: of the training, and of an evaluation that has no train_dataloader to go by.
dataset = dict(type='EmbeddedMNIST', image_size=32, split='train')
train_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='mmsagan.collate_batch'),
    dataset=dict(pipeline=train_pipeline, **dataset))

# The real images of an evaluation: the training set, without augmentation. What is not stated is as in train_dataloader.
val_dataloader = test_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(pipeline=[dict(type='PackInputs')]))
