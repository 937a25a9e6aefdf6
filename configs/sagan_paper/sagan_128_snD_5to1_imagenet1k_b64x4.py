# Section 5.1, the baseline with five updates of D for one of G, by which the original work trains it; the paper has no number for it.
_base_ = './sagan_128_snD_imagenet1k_b64x4.py'

# An iteration is one update of D: as many updates of G as in the other runs, and as many between two evaluations.
dist_step = 5
model = dict(discriminator_steps=dist_step)
train_cfg = dict(
    max_iters=1000000 * dist_step,
    val_interval=10000 * dist_step,
    dynamic_intervals=[(800000 * dist_step, 4000 * dist_step)])
