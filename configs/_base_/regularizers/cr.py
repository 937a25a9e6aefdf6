# CR: D's logits for real images should not change if these are mirrored and shifted. Omit 'flip' for digits and letters.
# For a leaf with this base and `model = dict(regularizers=dict(cr=_base_.cr))`.
cr = dict(
    type='ConsistencyRegularization', weight=10.0, augment=dict(type='DiffAugment', policy='flip,translation'))
