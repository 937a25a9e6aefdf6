# Section 5.1, the baseline: spectral norm in D only, equal learning rates, one update of D for one of G. FID 181.84 at 10k iterations;
# unstable according to the paper.
_base_ = './sagan_128_snGD_imagenet1k_b64x4.py'

model = dict(generator=dict(with_spectral_norm=False))
