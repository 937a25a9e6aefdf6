# bCR: as in cr.py, for real and for fake images.
# For a leaf with this base and `model = dict(regularizers=dict(bcr=_base_.bcr))`.
bcr = dict(
    type='ConsistencyRegularization',
    weight=10.0,
    fake_weight=1.0,
    augment=dict(type='DiffAugment', policy='flip,translation'))
