_base_ = ['./sagan_32_baseline_fashion-few_b32x1.py', '../_base_/augment/diffaugment.py']

model = dict(augment=_base_.augment)
