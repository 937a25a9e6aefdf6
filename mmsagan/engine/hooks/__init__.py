"""Hooks into MMEngine's runner."""

from mmsagan.engine.hooks.attention import AttentionVisualizationHook
from mmsagan.engine.hooks.checkpoint import CheckpointHook
from mmsagan.engine.hooks.collapse import CollapseHook
from mmsagan.engine.hooks.consistency import ConsistencyHook
from mmsagan.engine.hooks.divergence import DivergenceHook
from mmsagan.engine.hooks.progress import ProgressHook
from mmsagan.engine.hooks.summary import SummaryHook
from mmsagan.engine.hooks.timer import IterTimerHook
from mmsagan.engine.hooks.visualization import VisualizationHook

__all__ = [
    'AttentionVisualizationHook',
    'CheckpointHook',
    'CollapseHook',
    'ConsistencyHook',
    'DivergenceHook',
    'IterTimerHook',
    'ProgressHook',
    'SummaryHook',
    'VisualizationHook',
]
