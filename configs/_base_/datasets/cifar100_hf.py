# CIFAR-100 from the Hugging Face Hub: 100 classes, 32x32, flipped at random. Needs pip install "mmsagan[hub]".
_base_ = './cifar10_nopad.py'

dataset = dict(_delete_=True, type='HuggingFaceDataset', path='uoft-cs/cifar100', image='img', label='fine_label')
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}, **dataset))
