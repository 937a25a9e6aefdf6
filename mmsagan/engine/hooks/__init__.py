"""Hooks into MMEngine's runner."""

from mmsagan.engine.hooks.data_check import DataCheckHook
from mmsagan.engine.hooks.progress import ProgressHook
from mmsagan.engine.hooks.visualization import VisualizationHook

__all__ = ['DataCheckHook', 'ProgressHook', 'VisualizationHook']
