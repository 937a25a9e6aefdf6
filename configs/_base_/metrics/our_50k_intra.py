# our_50k.py, and at the end (tools/test.py) FID within each class, too. A class needs more samples than the 2 048 features, and classes
# are drawn at random: of 2 250 000 samples the rarest of 1 000 gets 2 105 (seed 0). Features take 8 KiB an image, shared
# out among the processes: 29 GB with the real images'.
_base_ = './our_50k.py'

intra_fid = dict(type='IntraFID', prefix='IntraFID-2250k', fake_nums=2250000, inception_style='StyleGAN')
test_evaluator = dict(metrics=_base_.test_evaluator.metrics + [intra_fid])
