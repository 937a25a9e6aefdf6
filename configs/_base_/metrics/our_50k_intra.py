# our_50k.py, and at the end (tools/test.py) FID within each class, too, of the same 50 000 samples, as in the paper: about 50 of each of
# 1 000 classes. For 5 000 samples a class, or as many as there are real images: fakes_per_class=5000 or 'real'. Features take 8 KiB
# an image, shared out among the processes: 11 GB with the real images'.
_base_ = './our_50k.py'

intra_fid = dict(type='IntraFID', prefix='IntraFID-50k', fake_nums=50000, inception_style='StyleGAN')
test_evaluator = dict(metrics=_base_.test_evaluator.metrics + [intra_fid])
