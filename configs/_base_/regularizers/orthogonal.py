# BigGAN's orthogonal regularization of G.
# For a leaf with this base and `model = dict(regularizers=dict(orthogonal=_base_.orthogonal))`.
orthogonal = dict(type='OrthogonalRegularization', weight=1e-4)
