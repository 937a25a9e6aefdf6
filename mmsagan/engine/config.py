"""Loading a config file."""

from pathlib import Path

from mmengine.config import Config

from mmsagan.errors import ConfigError
from mmsagan.utils import register_all_modules

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Reads a config file, applies ``--cfg-options``, and registers all components.

    ``num_workers=0`` takes ``persistent_workers=True`` back, which a base may have set and PyTorch refuses without workers.

    Args:
        path: The file.
        options: Dotted keys and their new values.

    Raises:
        ConfigError: The file or one of its bases is missing or fails when it is run, or an option does not fit in.
    """
    register_all_modules()
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:  # a config is the user's Python and can raise anything
        raise ConfigError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ConfigError(f'--cfg-options {options}: {error}') from error
    for key in LOADERS:
        if isinstance(cfg.get(key), dict) and not cfg[key].get('num_workers'):
            cfg[key]['persistent_workers'] = False
    return cfg
