# ADA with the paper's settings, for a leaf with this base and `model = dict(augment=_base_.augment)`.
augment = dict(type='ADA', target=0.6, interval=4, images=500_000)
