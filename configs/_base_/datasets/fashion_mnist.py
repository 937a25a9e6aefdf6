# Fashion-MNIST, padded to 32x32, flipped at random.
_base_ = './mnist.py'

dataset = dict(_delete_=True, type='FashionMNIST', image_size=32)
train_pipeline = [dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
train_dataloader = dict(
    dataset=dict(_delete_=True, type='FashionMNIST', image_size=32, pipeline=train_pipeline))
