"""Loading a config and finding its mistakes before anything is built or written."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmsagan import registry as mmsagan_registry
from mmsagan.errors import ConfigError
from mmsagan.utils import register_all_modules

# Dicts whose ``type`` names something other than a registered component.
_OTHER_TYPES = ('init_cfg', 'vis_kwargs_list', 'clip_grad')
_ALWAYS_ALLOWED = {'type', '_scope_', 'priority', 'convert_to_iter_based'}
_LOADER_KEYS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn', 'num_batch_per_epoch'}
_WRAPPER_KEYS = {'optimizer', 'paramwise_cfg', 'constructor'}


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Reads a config file, applies ``--cfg-options``, and registers all components.

    Args:
        path: The file.
        options: Dotted keys and their new values.

    Raises:
        ConfigError: The file or one of its bases is missing or is no valid Python, or an option does not fit in.
    """
    register_all_modules()
    try:
        cfg = Config.fromfile(str(path))
    except FileNotFoundError as error:
        raise ConfigError(f'config {path}: {error}') from error
    except (SyntaxError, NameError, KeyError, TypeError, ImportError, OSError) as error:
        raise ConfigError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ConfigError(f'--cfg-options {options}: {error}') from error
    return cfg


def check_config(cfg: Config) -> None:
    """Checks every type name, and the arguments of every component, against what is registered.

    Raises:
        ConfigError: Names the key, what was found and what it may have been meant to be.
    """
    _check_top_level(cfg)
    for path, node in _walk(cfg._cfg_dict):
        component = _component_of(path, node)
        if component is not None:
            _check_arguments(path, node, *component)


def _check_top_level(cfg: Config) -> None:
    known = set(inspect.signature(Runner.__init__).parameters) | {'model_wrapper_cfg', 'custom_imports'}
    for key in cfg:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.9)
        if key not in known and close:
            raise ConfigError(f'unknown key {key!r}; did you mean {close[0]!r}?')
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise ConfigError(f'the config has no {key!r}; inherit it from a file in configs/_base_ or state it')
    if 'max_iters' not in cfg.train_cfg:
        raise ConfigError('train_cfg has no max_iters, the number of iterations to train')


def _walk(node, path: str = '') -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        if path:
            yield path, node
        for key, value in node.items():
            if key not in _OTHER_TYPES:
                yield from _walk(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}[{index}]')


def _component_of(path: str, node: dict) -> tuple[Callable, set[str]] | None:
    """What a dict of the config will be built into, and the keys that its builder takes itself."""
    if path in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        return DataLoader, _LOADER_KEYS
    if path == 'train_cfg' and 'type' not in node:
        return mmengine_registry.LOOPS.get('IterBasedTrainLoop'), {'by_epoch'}
    if path.startswith('optim_wrapper.') and 'optimizer' in node:
        return _find_component('OptimWrapper', path), _WRAPPER_KEYS | {'dtype', 'loss_scale', 'use_fsdp'}
    name = node.get('type')
    if path == 'optim_wrapper' or name is None:
        return None
    return (_find_component(name, path) if isinstance(name, str) else name), set()


def _registries() -> Iterable[Registry]:
    for module in (mmsagan_registry, mmengine_registry):
        yield from (value for value in vars(module).values() if isinstance(value, Registry))


def _find_component(name: str, path: str) -> Callable:
    for registry in _registries():
        component = registry.get(name)
        if component is not None:
            return component
    names = {known for registry in _registries() for known in registry.module_dict}
    close = difflib.get_close_matches(name, names, n=1)
    raise ConfigError(
        f'{path}.type={name!r} is not registered'
        + (f'; did you mean {close[0]!r}?' if close else '; a component of your own is made known by custom_imports')
    )


def _check_arguments(path: str, node: dict, component: Callable, extra: set[str]) -> None:
    accepted, takes_any = accepted_arguments(component)
    accepted = accepted | extra
    for key in node:
        if key in accepted | _ALWAYS_ALLOWED:
            continue
        # Where anything is taken, a key is a mistake only if it is nearly one that is known.
        close = difflib.get_close_matches(key, accepted | {'type'}, n=1, cutoff=0.85 if takes_any else 0.6)
        if close or not takes_any:
            raise ConfigError(
                f'{path}.{key}: {component.__name__} has no such argument'
                + (f'; did you mean {close[0]!r}?' if close else f'; it takes {", ".join(sorted(accepted))}')
            )


def accepted_arguments(component: Callable) -> tuple[set[str], bool]:
    """Names of a component's arguments, those it hands on to its base classes included, and whether it takes any other."""
    functions = [component]
    if inspect.isclass(component):
        functions = [vars(base)['__init__'] for base in component.__mro__[:-1] if '__init__' in vars(base)]
    names: set[str] = set()
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {'self'}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names, False
    return names, bool(functions)
