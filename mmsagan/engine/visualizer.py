"""A visualizer that does without the backends that are not installed."""

import importlib.util
import logging

from mmengine.logging import print_log
from mmengine.visualization import Visualizer

from mmsagan.registry import VISUALIZERS

_NEEDED_MODULE = {'TensorboardVisBackend': 'tensorboard', 'WandbVisBackend': 'wandb'}


@VISUALIZERS.register_module()
class SampleVisualizer(Visualizer):
    """MMEngine's visualizer, whose config may name TensorBoard or Weights & Biases without their being there.

    Args:
        name: Of the instance; the runner sets it.
        vis_backends: Configs of the backends; those whose package is missing are left out, which the log says.
        **kwargs: See ``mmengine.visualization.Visualizer``.
    """

    def __init__(self, name: str = 'visualizer', vis_backends: list[dict] | None = None, **kwargs):
        super().__init__(name=name, vis_backends=[cfg for cfg in vis_backends or [] if _is_installed(cfg)] or None, **kwargs)


def _is_installed(backend: dict) -> bool:
    module = _NEEDED_MODULE.get(backend.get('type') if isinstance(backend, dict) else None)
    if module is None or importlib.util.find_spec(module) is not None:
        return True
    print_log(f'{backend["type"]} is left out: {module} is not installed', logger='current', level=logging.INFO)
    return False
