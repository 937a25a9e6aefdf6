# The first 100 training images of each class of Fashion-MNIST, with equal learning rates, which did best in configs/sagan_fashion.
# The other configs of this folder each add augmentation, regularization or both.
_base_ = '../sagan_fashion/sagan_32_equal-lr_fashion_b64x1.py'

train_dataloader = dict(batch_size=32, dataset=dict(per_class=100))
# Scored against the 10 000 test images, so that a model that only returns the training images gains little.
scored = dict(fake_nums=1000, inception_style='fashion', dataset=dict(test_mode=True, per_class=None))
val_evaluator = test_evaluator = dict(
    metrics=[
        dict(type='FrechetInceptionDistance', prefix='FID-fashion', **scored),
        dict(type='PrecisionRecall', prefix='PR-fashion', real_nums=1000, **scored)
    ],
    held_out=None)
train_cfg = dict(max_iters=2000, val_interval=250)
default_hooks = dict(checkpoint=dict(interval=250, max_keep_ckpts=2))
