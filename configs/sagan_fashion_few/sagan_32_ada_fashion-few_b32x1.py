# As fast as a training of 96 000 images needs it: p can go from 0 to 1 in half of it.
_base_ = ['./sagan_32_baseline_fashion-few_b32x1.py', '../_base_/augment/ada.py']

model = dict(augment=dict(_base_.augment, images=50_000))
