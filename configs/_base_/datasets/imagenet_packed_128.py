# ImageNet at 128x128, packed: cropped at random from the long edge, flipped at random. Made by
#   python tools/dataset_converters/pack_images.py data/imagenet/train --layout short-side --size 128 \
#       --out data/imagenet_packed_128_short-side
# To flip on the GPU instead: train_pipeline without RandomFlip, and model.data_preprocessor.flip_prob=0.5.
# Which images: of the training, and of an evaluation that has no train_dataloader to go by.
dataset = dict(type='PackedImages', data_root='data/imagenet_packed_128_short-side')
train_pipeline = [dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='mmsagan.collate_batch'),
    dataset=dict(crop='random', pipeline=train_pipeline, **dataset))

# The real images of an evaluation: the training set, without augmentation. What is not stated is as in train_dataloader.
val_pipeline = [dict(type='PackInputs')]
val_dataloader = test_dataloader = dict(
    batch_size=64, num_workers=2, dataset=dict(crop='center', pipeline=val_pipeline))
