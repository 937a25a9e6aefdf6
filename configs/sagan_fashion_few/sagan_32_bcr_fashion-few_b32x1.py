_base_ = ['./sagan_32_baseline_fashion-few_b32x1.py', '../_base_/regularizers/bcr.py']

model = dict(regularizers=dict(bcr=_base_.bcr))
