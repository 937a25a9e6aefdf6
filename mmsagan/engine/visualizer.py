"""What a training shows and logs, written so that it never ends the training."""

import errno
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.fileio import dump
from mmengine.logging import print_log
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend, force_init_env

from mmsagan.errors import ConfigError
from mmsagan.registry import VISBACKENDS, VISUALIZERS
from mmsagan.utils.files import write_atomically
from mmsagan.visualization.figures import encode_png

# By the names that ``track`` knows them by.
TRACKERS = {'tensorboard': 'TensorboardVisBackend', 'wandb': 'WandbVisBackend'}
_NEEDED_MODULE = {backend: module for module, backend in TRACKERS.items()}


@VISUALIZERS.register_module()
class SampleVisualizer(Visualizer):
    """MMEngine's visualizer, for which a picture or a number that cannot be written is worth a warning and not a training.

    Args:
        name: Of the instance; the runner sets it.
        vis_backends: Configs of the backends.
        track: What else to tell of numbers, pictures and the config: ``'tensorboard'``, ``'wandb'``, the config of a backend,
            or a list of these. In a config that is ``visualizer = dict(track='wandb')``, on the command line ``--cfg-options
            visualizer.track=tensorboard,wandb``. Those whose package is missing are left out, which the log says.
        **kwargs: See ``mmengine.visualization.Visualizer``.

    Raises:
        ConfigError: ``track`` names something unknown.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        vis_backends: list[dict] | None = None,
        track: str | dict | list[str | dict] | None = None,
        **kwargs,
    ):
        backends = list(vis_backends or [])
        stated = set(map(_type_of, backends))  # in full, which a name does not override
        backends += [backend for backend in _configs(track) if _type_of(backend) not in stated]
        super().__init__(name=name, vis_backends=[backend for backend in backends if _is_installed(backend)] or None, **kwargs)
        self._failing: set[str] = set()

    @property
    def backends(self) -> list[BaseVisBackend]:
        """Those that are told of everything."""
        return list(self._vis_backends.values())

    @master_only
    def add_config(self, config: Config, **kwargs) -> None:
        """Hands the config to all backends."""
        self._tell_backends(lambda backend: backend.add_config(config, **kwargs), are_needed=True)

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

    def close(self) -> None:
        """Has all backends write what they still have."""
        self._tell_backends(lambda backend: backend.close())

    def _tell_backends(self, tell: Callable, are_needed: bool = False) -> None:
        """Tells each backend, and warns if it fails.

        A file that cannot be written is tried again the next time. A tracker that fails otherwise (no login, no network, a bug)
        is left alone from then on: it may take a minute to do so. ``are_needed`` says that a work dir that cannot be written is
        an error, as at the start.
        """
        for name, backend in list(self._vis_backends.items()):
            try:
                tell(backend)
                self._failing.discard(name)
            except OSError as error:
                if are_needed and not _is_tracker(backend):
                    raise
                if name not in self._failing:  # once, until it works again
                    print_log(f'{name} cannot write, and the training goes on: {error}', 'current', logging.WARNING)
                self._failing.add(name)
            except Exception as error:  # whatever another service's client raises
                if not _is_tracker(backend):
                    raise
                del self._vis_backends[name]
                reason = f'{type(error).__name__}: {error}'
                print_log(f'{name} has failed, and the training goes on without it: {reason}', 'current', logging.WARNING)


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

    @force_init_env
    def newest_pictures(self, until: int) -> dict[str, tuple[int, Path]]:
        """By name, the step and the file of the last picture that is there, of this run or the one that it has gone on from.

        Args:
            until: Later pictures, of an earlier and longer run in the same folder, do not count.
        """
        found = [(re.fullmatch(r'(.+)_(\d+)\.png', path.name), path) for path in Path(self._img_save_dir).glob('*.png')]
        pictures = sorted((int(match[2]), match[1], path) for match, path in found if match and int(match[2]) <= until)
        return {name: (step, path) for step, name, path in pictures}

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


def _configs(track: str | dict | list | tuple | None) -> Iterator[dict]:
    """The backends that ``track`` asks for."""
    for tracker in track if isinstance(track, (list, tuple)) else [track]:
        if isinstance(tracker, dict):
            yield tracker
        elif tracker in TRACKERS:
            yield dict(type=TRACKERS[tracker])
        elif tracker is not None:
            raise ConfigError(
                f'visualizer.track={tracker!r} is not known; it may be {", ".join(map(repr, TRACKERS))}, the config of a '
                "backend, as dict(type='MLflowVisBackend'), a list of these, or None"
            )


def _type_of(backend: dict | BaseVisBackend) -> str | None:
    return backend.get('type') if isinstance(backend, dict) else type(backend).__name__


def _is_tracker(backend: BaseVisBackend) -> bool:
    """Whether a backend is somebody else's program, and not the files that the training itself goes by."""
    return not isinstance(backend, MMEngineLocalVisBackend)


def _is_installed(backend: dict | BaseVisBackend) -> bool:
    module = _NEEDED_MODULE.get(_type_of(backend))
    if module is None or importlib.util.find_spec(module) is not None:
        return True
    level = logging.INFO if module == 'tensorboard' else logging.WARNING  # the first is only asked for by the base config
    print_log(f'{_type_of(backend)} is left out: {module} is not installed', logger='current', level=level)
    return False
