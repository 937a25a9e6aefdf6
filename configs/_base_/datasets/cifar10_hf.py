# CIFAR-10 from the Hugging Face Hub, 32x32, flipped at random. Needs pip install "mmsagan[hub]".
_base_ = './cifar10_nopad.py'

dataset = dict(_delete_=True, type='HuggingFaceDataset', path='uoft-cs/cifar10', image='img')
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}, **dataset))
