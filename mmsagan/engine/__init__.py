"""The glue to MMEngine: hooks, optimizers, processes."""

from mmsagan.engine.finite_steps import AmpOptimWrapper, OptimWrapper
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
from mmsagan.engine.loops import GANTestLoop, GANValLoop
from mmsagan.engine.optimizers import BFloat16OptimWrapper, MultiOptimWrapperConstructor
from mmsagan.engine.runner import GANRunner
from mmsagan.engine.train_loop import GANTrainLoop

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
