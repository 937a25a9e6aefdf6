# Table 2, SAGAN: IS 52.52, intra-FID 83.7, FID 18.65; table 1's best IS, attention on the 64x64 feature maps, with intra-FID beside it.
_base_ = [
    '../_base_/models/sagan/base_sagan_paper_128x128.py',
    '../_base_/datasets/imagenet_noaug_128.py',
    '../_base_/schedules/sagan_paper.py',
    '../_base_/metrics/our_50k_intra.py',
]

model = dict(generator=dict(attention_after_nth_block=4), discriminator=dict(attention_after_nth_block=1))
val_evaluator = test_evaluator = dict(inception_pkl='work_dirs/inception_pkl/imagenet.pkl')
