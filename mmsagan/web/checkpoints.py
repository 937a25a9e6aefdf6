"""The checkpoints that the web demo shows, and their models."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mmsagan.apis.inference import init_model
from mmsagan.apis.zoo import resolve_model
from mmsagan.checkpoints.io import find_latest_checkpoint, list_checkpoints
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.models import ConditionalGAN
from mmsagan.visualization.figures import printable


def resolve_checkpoint(config: str, checkpoint: str) -> str:
    """Returns a checkpoint's file or URL, given as such, as ``'zoo'``, or as a work dir, whose newest undamaged one counts."""
    if checkpoint == 'zoo':
        return resolve_model(config).weights
    path = Path(checkpoint).expanduser()
    if not path.is_dir():
        return str(path.absolute()) if path.is_file() else checkpoint
    latest, _ = find_latest_checkpoint(path.absolute())
    if latest is None:
        raise CheckpointError(f'{path.absolute()}: no checkpoint; train one first (`make demo`), or give a checkpoint file')
    return str(latest)


class Checkpoints:
    """The checkpoints that a visitor can choose by name; their models are loaded on first use.

    These are the given ones, as :func:`resolve_checkpoint` accepts them, which are loaded at once; and the ``iter_*.pth`` and
    ``best_*.pth`` next to the first, including those that training writes later. A name is never used as a path. The config of
    ``others`` defaults to that of the first one, with its ``cfg_options``.
    """

    def __init__(
        self,
        config: str,
        checkpoint: str,
        device: str | torch.device = 'cpu',
        cfg_options: Mapping | None = None,
        others: Sequence[str] = (),
        others_config: str | None = None,
    ):
        options = {others_config: None, config: cfg_options}

        def load(config: str, checkpoint: str, mtime_ns: int) -> ConditionalGAN:
            return init_model(config, checkpoint, device, options[config])

        self.config = config
        self._load = functools.lru_cache(maxsize=3)(load)  # the least recently used models are dropped
        self._given = [(config, resolve_checkpoint(config, checkpoint))]
        self._given += [(others_config or config, resolve_checkpoint(others_config or config, other)) for other in others]
        self._first_model = load(*self._given[0], 0)
        self.first = self.names()[0]
        for name in self.names()[1 : len(self._given)]:
            self.model(name)

    def names(self) -> list[str]:
        """Returns the names of the current checkpoints, the given ones first."""
        return list(self._choices())

    def model(self, name: str | None = None) -> ConditionalGAN:
        """Returns the model of a checkpoint; defaults to the first one. A name that is not there is a ConfigError."""
        if name is None or name == self.first:
            return self._first_model
        choices = self._choices()
        if name not in choices:
            raise ConfigError(f'no checkpoint {str(name)[:60]} here (any more); choose one of {", ".join(choices)}')
        path = Path(choices[name][1])
        return self._load(*choices[name], path.stat().st_mtime_ns if path.is_file() else 0)  # loaded again if overwritten

    def _choices(self) -> dict[str, tuple[str, str]]:
        """Returns config and checkpoint by name."""
        paths: list[Path] = []
        folder = Path(self._given[0][1]).parent
        if folder.is_absolute():  # not a URL
            paths = [path for _, path in reversed(list_checkpoints(folder))] + sorted(folder.glob('best_*.pth'))
        choices: dict[str, tuple[str, str]] = {}
        for config, checkpoint in dict.fromkeys([*self._given, *((self.config, str(path)) for path in paths)]):
            path = Path(printable(checkpoint))
            parent = f'{path.parent.name}/{path.name}'
            name = next(name for name in (path.name, parent, f'{parent} ({len(choices) + 1})') if name not in choices)
            choices[name] = config, checkpoint
        return choices
