# A tenth of the paper's weight, which was too much for the small logits here.
_base_ = ['./sagan_32_baseline_fashion-few_b32x1.py', '../_base_/regularizers/bcr.py']

model = dict(regularizers=dict(bcr=dict(_base_.bcr, weight=1.0)))
