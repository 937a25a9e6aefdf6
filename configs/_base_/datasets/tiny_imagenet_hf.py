# Tiny ImageNet from the Hugging Face Hub: 200 classes, 64x64, flipped at random. Needs pip install "mmsagan[hub]".
_base_ = './cifar10_nopad.py'

dataset = dict(_delete_=True, type='HuggingFaceDataset', path='zh-plus/tiny-imagenet')
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}, **dataset))
