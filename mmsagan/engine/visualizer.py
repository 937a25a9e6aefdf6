"""What a training shows and logs, written so that it never ends the training."""

import errno
import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.fileio import dump
from mmengine.logging import print_log
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import force_init_env

from mmsagan.registry import VISBACKENDS, VISUALIZERS
from mmsagan.utils.files import write_atomically
from mmsagan.visualization.figures import encode_png

_NEEDED_MODULE = {'TensorboardVisBackend': 'tensorboard', 'WandbVisBackend': 'wandb'}


@VISUALIZERS.register_module()
class SampleVisualizer(Visualizer):
    """MMEngine's visualizer, for which a picture or a number that cannot be written is worth a warning and not a training.

    Its config may name TensorBoard or Weights & Biases without their being there.

    Args:
        name: Of the instance; the runner sets it.
        vis_backends: Configs of the backends; those whose package is missing are left out, which the log says.
        **kwargs: See ``mmengine.visualization.Visualizer``.
    """

    def __init__(self, name: str = 'visualizer', vis_backends: list[dict] | None = None, **kwargs):
        super().__init__(name=name, vis_backends=[cfg for cfg in vis_backends or [] if _is_installed(cfg)] or None, **kwargs)
        self._failing: set[str] = set()

    @master_only
    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Hands a picture (H, W, 3) uint8 RGB to all backends."""
        self._tell_backends(lambda backend: backend.add_image(name, image, step))

    @master_only
    def add_scalar(self, name: str, value: float, step: int = 0, **kwargs) -> None:
        """Hands a number to all backends."""
        self._tell_backends(lambda backend: backend.add_scalar(name, value, step, **kwargs))

    @master_only
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs) -> None:
        """Hands numbers by name to all backends."""
        self._tell_backends(lambda backend: backend.add_scalars(dict(scalar_dict), step, file_path, **kwargs))

    def _tell_backends(self, tell: Callable) -> None:
        for name, backend in self._vis_backends.items():
            try:
                tell(backend)
                self._failing.discard(name)
            except OSError as error:
                if name not in self._failing:  # once, until it works again
                    print_log(f'{name} cannot write, and the training goes on: {error}', 'current', logging.WARNING)
                self._failing.add(name)


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """MMEngine's backend of the same name, whose pictures and lines are written whole or not at all.

    Raises:
        OSError: Something cannot be written.
    """

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """Writes a picture (H, W, 3) uint8 RGB as ``<name>_<step>.png``."""
        write_atomically(Path(self._img_save_dir, f'{name}_{step}.png'), encode_png(image))

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        line = dump(value_dict, file_format=file_format).encode() + b'\n'
        with open(file_path, 'ab', buffering=0) as file:
            size = file.tell()
            try:
                if file.write(line) < len(line):  # as much as there was room for
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file_path)
            except OSError:
                os.truncate(file_path, size)  # part of a line would spoil the next one
                raise


def _is_installed(backend: dict) -> bool:
    module = _NEEDED_MODULE.get(backend.get('type') if isinstance(backend, dict) else None)
    if module is None or importlib.util.find_spec(module) is not None:
        return True
    print_log(f'{backend["type"]} is left out: {module} is not installed', logger='current', level=logging.INFO)
    return False
