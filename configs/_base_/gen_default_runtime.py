# What every training run has, whatever its model and data.
default_scope = 'mmsagan'

randomness = dict(seed=2022, diff_rank_seed=True)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800))
# G and D are updated in turn, so each has a DDP wrapper of its own.
model_wrapper_cfg = dict(
    type='MMSeparateDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=False)

train_cfg = dict(by_epoch=False, val_begin=1, val_interval=10000)
val_cfg = dict(type='GANValLoop')
test_cfg = dict(type='GANTestLoop')
optim_wrapper = dict(constructor='MultiOptimWrapperConstructor')

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    consistency=dict(type='ConsistencyHook'),
    divergence=dict(type='DivergenceHook', max_skipped_in_a_row=20),
    logger=dict(type='LoggerHook', interval=100, log_metric_by_epoch=False),
    summary=dict(type='SummaryHook', interval=1000),
    # Without save_best, the checkpoints with the best IS and the best FID of the val_evaluator are kept, too.
    checkpoint=dict(type='CheckpointHook', interval=10000, by_epoch=False, max_keep_ckpts=20))
custom_hooks = [dict(type='VisualizationHook', interval=5000, vis_kwargs_list=dict(type='GAN', name='fake_img'))]

log_level = 'INFO'
log_processor = dict(type='LogProcessor', by_epoch=False, window_size=50, mean_pattern=r'.*(loss|logits|time|grad_norm).*')
# Scalars go to <work_dir>/<time>/vis_data/, sample grids to <work_dir>/samples/. Append dict(type='TensorboardVisBackend') or
# dict(type='WandbVisBackend') to send both there, too.
vis_backends = [dict(type='LocalVisBackend', img_save_dir='../../samples')]
visualizer = dict(type='SampleVisualizer', vis_backends=vis_backends)

param_scheduler = None
load_from = None
resume = False
