_base_ = ['./sagan_32_baseline_fashion-few_b32x1.py', '../_base_/regularizers/r1.py']

model = dict(regularizers=dict(r1=_base_.r1))
