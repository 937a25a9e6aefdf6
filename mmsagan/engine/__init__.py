"""The glue to MMEngine: hooks, optimizers, processes."""

from mmsagan.checkpoints.loading import register_checkpoint_loaders
from mmsagan.engine.hooks import DataCheckHook, ProgressHook, VisualizationHook
from mmsagan.engine.optimizers import BFloat16OptimWrapper, MultiOptimWrapperConstructor
from mmsagan.engine.visualizer import SampleVisualizer

register_checkpoint_loaders()

__all__ = [
    'BFloat16OptimWrapper',
    'DataCheckHook',
    'MultiOptimWrapperConstructor',
    'ProgressHook',
    'SampleVisualizer',
    'VisualizationHook',
]
