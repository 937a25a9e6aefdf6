# DiffAugment, for a leaf with this base and `model = dict(augment=_base_.augment)`.
augment = dict(type='DiffAugment', policy='color,translation,cutout')
