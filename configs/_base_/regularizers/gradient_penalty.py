# The gradient penalty of WGAN-GP. As in its paper, set `gan_loss=dict(type='WassersteinGANLoss')` and no spectral norm in D, too.
# For a leaf with this base and `model = dict(regularizers=dict(gradient_penalty=_base_.gradient_penalty))`.
gradient_penalty = dict(type='GradientPenalty', weight=10.0)
