_base_ = ['./sagan_32_diffaugment_fashion-few_b32x1.py', '../_base_/regularizers/lecam.py']

model = dict(regularizers=dict(lecam=_base_.lecam))
