# Table 1, no attention: FID 22.96, IS 42.87; 4 GPUs with 64 images each. It is also "SN on G/D + TTUR" of section 5.1, whose FID at
# one million iterations is the same in figure 4. The other configs of this folder state what they do otherwise.
_base_ = [
    '../_base_/models/sagan/base_sagan_paper_128x128.py',
    '../_base_/datasets/imagenet_noaug_128.py',
    '../_base_/schedules/sagan_paper.py',
    '../_base_/metrics/our_50k.py',
]

val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
