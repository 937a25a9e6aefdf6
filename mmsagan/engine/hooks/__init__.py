"""Hooks into MMEngine's runner."""

from mmsagan.engine.hooks.checkpoint import CheckpointHook
from mmsagan.engine.hooks.logging import LogProcessor, RuntimeInfoHook, SummaryHook
from mmsagan.engine.hooks.monitor import ConsistencyHook, DivergenceHook
from mmsagan.engine.hooks.visualization import AttentionVisualizationHook, LocalVisBackend, SampleVisualizer, VisualizationHook
