"""The glue to MMEngine: hooks, optimizers, processes."""

from mmsagan.engine.hooks import (
    CheckpointHook,
    CollapseHook,
    ConsistencyHook,
    DivergenceHook,
    LogProcessor,
    ProgressHook,
    SampleVisualizer,
    SummaryHook,
    VisualizationHook,
)
from mmsagan.engine.loops import GANTestLoop, GANTrainLoop, GANValLoop
from mmsagan.engine.optim import AmpOptimWrapper, BFloat16OptimWrapper, MultiOptimWrapperConstructor, OptimWrapper
from mmsagan.engine.runner import GANRunner

__all__ = [
    'AmpOptimWrapper',
    'BFloat16OptimWrapper',
    'CheckpointHook',
    'CollapseHook',
    'ConsistencyHook',
    'DivergenceHook',
    'GANRunner',
    'GANTestLoop',
    'GANTrainLoop',
    'GANValLoop',
    'LogProcessor',
    'MultiOptimWrapperConstructor',
    'OptimWrapper',
    'ProgressHook',
    'SampleVisualizer',
    'SummaryHook',
    'VisualizationHook',
]
