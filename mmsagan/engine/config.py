"""Loading a config file."""

from pathlib import Path

from mmengine.config import Config

from mmsagan.errors import ConfigError
from mmsagan.registry import SCOPE
from mmsagan.utils import register_all_modules

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_LOOPS = dict(val='GANValLoop', test='GANTestLoop')


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
    if cfg.get('default_scope') == SCOPE:
        _forget_own_scope(list(cfg.values()))
    for key in LOADERS:
        if isinstance(cfg.get(key), dict) and not cfg[key].get('num_workers'):
            cfg[key]['persistent_workers'] = False
    return cfg


def _forget_own_scope(node) -> None:
    """Removes the ``_scope_`` that MMEngine adds to what is inherited by ``mmsagan::``.

    It is the default scope anyway, and MMEngine itself takes the key for an argument of a ``collate_fn``.
    """
    if isinstance(node, dict) and node.get('_scope_') == SCOPE:
        del node['_scope_']
    if isinstance(node, (dict, list, tuple)):
        for child in node.values() if isinstance(node, dict) else node:
            _forget_own_scope(child)


def complete_loader(cfg: Config, mode: str) -> dict:
    """The config of a mode's data loader; a data set without a ``type`` is the training's, but for what is stated.

    Where a config takes the training out (``train_dataloader=None``), its ``dataset`` stands for the training's.
    """
    loader = dict(dict(batch_size=64), **(cfg.get(f'{mode}_dataloader') or {}))
    trained_on = (cfg.get('train_dataloader') or cfg).get('dataset')
    if trained_on and 'type' not in loader.get('dataset', {}):
        loader['dataset'] = dict(trained_on, **loader.get('dataset', {}))
    return loader


def complete_evaluation(cfg: Config, mode: str) -> bool:
    """Makes a mode's loader, loop and evaluator either complete or absent, which is what MMEngine's runner asks for.

    Args:
        cfg: The experiment; is changed.
        mode: 'val' or 'test'. Testing takes the validation's loader and evaluator if it has none of its own.

    Returns:
        Whether there is anything to evaluate.
    """
    if mode == 'test':
        for part in ('dataloader', 'evaluator'):
            if cfg.get(f'test_{part}') is None:
                cfg[f'test_{part}'] = cfg.get(f'val_{part}')
    if not cfg.get(f'{mode}_evaluator'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{mode}_{part}'] = None
        return False
    cfg[f'{mode}_dataloader'] = complete_loader(cfg, mode)
    cfg[f'{mode}_cfg'] = dict(dict(type=_LOOPS[mode]), **(cfg.get(f'{mode}_cfg') or {}))
    return True


def complete_training(cfg: Config) -> None:
    """Has a training that counts iterations done by our loop, unless the config names another one."""
    if 'type' not in cfg.train_cfg and not cfg.train_cfg.get('by_epoch'):
        cfg.train_cfg = dict({key: value for key, value in cfg.train_cfg.items() if key != 'by_epoch'}, type='GANTrainLoop')
