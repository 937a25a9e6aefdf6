# ImageNet at 128x128, packed: the centre square, without augmentation; the same images to the bit as imagenet_noaug_128.py's.
#   python tools/dataset_converters/pack_images.py data/imagenet/train --layout square --size 128 \
#       --out data/imagenet_packed_128
_base_ = './imagenet_packed_128.py'

dataset = dict(data_root='data/imagenet_packed_128')
train_dataloader = dict(dataset=dict(crop='center', pipeline={{_base_.val_pipeline}}, **dataset))
