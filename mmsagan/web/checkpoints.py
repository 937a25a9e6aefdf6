"""Which checkpoints the web demo shows, and their models."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mmsagan.apis.inference import init_model
from mmsagan.apis.zoo import resolve_weights
from mmsagan.checkpoints.io import LAST_CHECKPOINT, find_latest_checkpoint, list_checkpoints
from mmsagan.errors import CheckpointError, ConfigError
from mmsagan.models import ConditionalGAN

_KEPT = 3  # models in memory, besides the first one


def resolve_checkpoint(config: str, checkpoint: str) -> str:
    """The file or URL of a checkpoint, which may also be given by its training's folder.

    Args:
        config: Of its model.
        checkpoint: A file, a URL or ``'zoo'``. Of a work dir, or the file ``last_checkpoint`` in one, its newest whole
            checkpoint is taken.

    Raises:
        CheckpointError: The work dir has no whole checkpoint.
        ConfigError: The config has no published weights.
    """
    if checkpoint == 'zoo':
        return resolve_weights(config)
    path = Path(checkpoint).expanduser()
    if path.name != LAST_CHECKPOINT and not path.is_dir():
        return str(path.absolute()) if path.is_file() else checkpoint
    folder = (path.parent if path.name == LAST_CHECKPOINT else path).absolute()
    newest, _ = find_latest_checkpoint(folder)
    if newest is None:
        raise CheckpointError(
            f'there is no checkpoint in {folder}: train one first (`make demo` leaves one in work_dirs/demo), or give the file '
            'of one'
        )
    return str(newest)


class Checkpoints:
    """The checkpoints that a visitor may choose from, by name; their models are loaded when they are first wanted.

    These are the ones that the server was started with, and what training has left beside the first of them (``iter_*.pth``,
    ``best_*.pth``), also if it is written later. A name is looked up among these, and is never used as a path.

    Args:
        config: File of the config, or its name in the model zoo.
        checkpoint: As :func:`resolve_checkpoint` takes it.
        device: Where models go.
        cfg_options: Changes of the config's values.
        others: Further checkpoints.
        others_config: Their config; None for the same one, with the same changes.

    Raises:
        MMSAGANError: One of the checkpoints given cannot be loaded.
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
        self.config = config
        self._device = device
        self._options = {config: cfg_options} if others_config is None else {others_config: None, config: cfg_options}
        # Config and checkpoint of each.
        self._given = [(config, resolve_checkpoint(config, checkpoint))]
        self._given += [(others_config or config, resolve_checkpoint(others_config or config, other)) for other in others]
        self._models: OrderedDict[tuple, ConditionalGAN] = OrderedDict()
        self._first_model = self._load(*self._given[0])
        self.first = self.names()[0]
        for name in self.names()[1 : len(self._given)]:
            self.model(name)

    def names(self) -> list[str]:
        """The checkpoints that there are now: first the ones that were given, then those beside the first one."""
        return list(self._choices())

    def model(self, name: str | None = None) -> ConditionalGAN:
        """The model of a checkpoint; None: of the first one.

        Raises:
            ConfigError: There is no checkpoint of that name.
            MMSAGANError: It cannot be loaded.
        """
        if name is None or name == self.first:
            return self._first_model
        choices = self._choices()
        if name not in choices:
            raise ConfigError(f'there is no checkpoint {str(name)[:60]} here (any more); choose one of {", ".join(choices)}')
        key = (*choices[name], _version(choices[name][1]))
        if key not in self._models:
            self._models[key] = self._load(*choices[name])
        self._models.move_to_end(key)
        while len(self._models) > _KEPT:
            self._models.popitem(last=False)
        return self._models[key]

    def _load(self, config: str, checkpoint: str) -> ConditionalGAN:
        return init_model(config, checkpoint, self._device, self._options[config])

    def _choices(self) -> dict[str, tuple[str, str]]:
        """Config and checkpoint by name."""
        choices: dict[str, tuple[str, str]] = {}
        for choice in [*self._given, *((self.config, path) for path in _siblings(self._given[0][1]))]:
            if choice not in choices.values():
                choices[_free_name(choice[1], choices)] = choice
        return choices


def _siblings(checkpoint: str) -> list[str]:
    """What training has left in a checkpoint's folder, the newest first."""
    folder = Path(checkpoint).parent
    if not folder.is_absolute():  # of a URL
        return []
    numbered = [path for _, path in reversed(list_checkpoints(folder))]
    return [str(path) for path in [*numbered, *sorted(folder.glob('best_*.pth'))]]


def _free_name(checkpoint: str, taken: Mapping) -> str:
    path = Path(checkpoint)
    names = [path.name, f'{path.parent.name}/{path.name}', f'{path.parent.name}/{path.name} ({len(taken) + 1})']
    return next(name for name in names if name not in taken)


def _version(checkpoint: str) -> int | None:
    """Differs once the file has been written anew."""
    try:
        return Path(checkpoint).stat().st_mtime_ns
    except OSError:  # a URL, or removed since
        return None
