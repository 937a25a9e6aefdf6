# Spectral norm in D only.
_base_ = './sagan_32_feat16_fashion_b64x1.py'

model = dict(generator=dict(with_spectral_norm=False))
