"""Loading, completing, checking and comparing configs."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmsagan import registry as mmsagan_registry
from mmsagan.errors import ConfigError
from mmsagan.models import GeneratorEMA
from mmsagan.utils import register_all_modules

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Any other key is a variable of the config.
_TOP_LEVEL_KEYS = {*inspect.signature(Runner.__init__).parameters, 'model_wrapper_cfg', 'custom_imports'}
_REGISTRIES = [
    value for module in (mmsagan_registry, mmengine_registry) for value in vars(module).values() if isinstance(value, Registry)
]
# Dicts without a ``type``, and the callables that take their keys as arguments.
_UNTYPED = {'model.ema_config': GeneratorEMA, 'randomness': Runner.set_randomness, **{key: DataLoader for key in LOADERS}}
# Dicts whose ``type`` is not the name of a registered component, or whose arguments are not ours to check.
_NOT_COMPONENTS = ('init_cfg', 'norm_cfg', 'vis_kwargs_list', 'clip_grad')
_ALWAYS_ALLOWED = {'type', '_scope_', 'priority', 'convert_to_iter_based'}
_LOADER_KEYS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn', 'num_batch_per_epoch'}
_WRAPPER_KEYS = {'optimizer', 'paramwise_cfg', 'constructor'}


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Registers all components, reads a config file and sets ``options``, dotted keys and their new values.

    Raises:
        ConfigError: The file or one of its bases is missing or raises an error, or an option cannot be applied.
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
    # The ``_scope_`` that MMEngine adds to what is inherited from ``mmsagan::`` would be passed to a ``collate_fn``.
    nodes: list = list(cfg.values()) if cfg.get('default_scope') == mmsagan_registry.SCOPE else []
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict) and node.get('_scope_') == mmsagan_registry.SCOPE:
            del node['_scope_']
        if isinstance(node, (dict, list, tuple)):
            nodes += node.values() if isinstance(node, dict) else node
    for key in LOADERS:  # PyTorch refuses persistent workers if there are none
        if isinstance(cfg.get(key), dict) and not cfg[key].get('num_workers'):
            cfg[key]['persistent_workers'] = False
    return cfg


def complete_loader(cfg: Config, mode: str) -> dict:
    """Returns the data loader config of ``'train'``, ``'val'`` or ``'test'``.

    A ``dataset`` without a ``type`` inherits from the training's data set. With ``train_dataloader=None``, as in configs for
    evaluation only, it inherits from the config's own variable ``dataset`` instead, which all files in
    ``configs/_base_/datasets`` set.
    """
    loader = dict(dict(batch_size=64), **(cfg.get(f'{mode}_dataloader') or {}))
    if 'type' not in loader.get('dataset', {}):
        inherited = (cfg.get('train_dataloader') or cfg).get('dataset')
        if inherited and not cfg.get('train_dataloader'):
            print_log(f"{mode}_dataloader takes its data from the config's variable 'dataset'", logger='current')
        if inherited:
            loader['dataset'] = dict(inherited, **loader.get('dataset', {}))
    return loader


def complete_evaluation(cfg: Config, mode: str) -> bool:
    """Makes data loader, loop and evaluator of ``'val'`` or ``'test'`` complete or None, as MMEngine's runner requires.

    The config is modified. The test's loader and evaluator default to those of the validation.

    Returns:
        Whether there is an evaluator.
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
    cfg[f'{mode}_cfg'] = dict(dict(type='GANValLoop' if mode == 'val' else 'GANTestLoop'), **(cfg.get(f'{mode}_cfg') or {}))
    return True


@contextmanager
def config_errors() -> Iterator[None]:
    """Turns errors about wrong arguments, raised while components are built, into a ConfigError."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AssertionError) as error:
        raise ConfigError(f'the experiment cannot be built: {type(error).__name__}: {error}') from error


def check_config(cfg: Config, training: bool | None = True) -> None:
    """Checks all type names and arguments in a config before anything is built.

    Args:
        cfg: The config.
        training: Whether it has to describe a training; an evaluation otherwise. None: whichever it has the optimizers for.

    Raises:
        ConfigError: A key is missing, misspelt or not accepted, or a type is not registered.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    has_optimizer = 'optimizer' in wrapper or any(isinstance(part, dict) and 'optimizer' in part for part in wrapper.values())
    has_length = {'type', 'max_iters', 'max_epochs'} & set(cfg.get('train_cfg') or {})
    is_evaluation_only = cfg.get('test_evaluator') and not has_optimizer and not has_length
    if training and is_evaluation_only:
        raise ConfigError(
            'the config is for evaluation only (mmsagan test): it sets neither an optimizer nor a number of iterations; to '
            'train, inherit a file in configs/_base_/schedules and set train_cfg.max_iters'
        )
    training = not is_evaluation_only if training is None else training
    for key, value in cfg.items():
        close = difflib.get_close_matches(key, _TOP_LEVEL_KEYS, n=1, cutoff=0.92)
        if isinstance(value, dict) and key not in _TOP_LEVEL_KEYS and close:
            raise ConfigError(f'unknown key {key!r}; did you mean {close[0]!r}?')
    for key in ('model', *(('train_dataloader', 'train_cfg', 'optim_wrapper') if training else ('test_evaluator',))):
        if not cfg.get(key):
            raise ConfigError(f'the config has no {key}; inherit it from a file in configs/_base_ or set it')
    if training and not {'type', 'max_iters'} & set(cfg.train_cfg) and not cfg.train_cfg.get('by_epoch'):
        raise ConfigError('train_cfg has no max_iters, the number of iterations to train')
    for key in [key for key in cfg.keys() if key in _TOP_LEVEL_KEYS]:
        _check_components(cfg[key], key, cfg)


def _check_components(node: Any, path: str, cfg: Config) -> None:
    """Checks the types and the arguments of all components that are built from a config's section."""
    for index, value in enumerate(node) if isinstance(node, (list, tuple)) else ():
        _check_components(value, f'{path}[{index}]', cfg)
    if not isinstance(node, dict):
        return
    kind, extra = node.get('type'), set()
    if path in _UNTYPED:
        kind, extra = _UNTYPED[path], _LOADER_KEYS if path in LOADERS else set()
    elif path == 'train_cfg' and kind is None:
        kind, extra = 'EpochBasedTrainLoop' if node.get('by_epoch') else 'IterBasedTrainLoop', {'by_epoch'}
    elif path == 'optim_wrapper':
        for key in {'type', 'constructor'} & set(node):
            find_component(node[key], f'{path}.{key}')
        kind = None
    elif path.startswith('optim_wrapper.') and 'optimizer' in node:
        kind, extra = kind or cfg.optim_wrapper.get('type', 'OptimWrapper'), _WRAPPER_KEYS
    if kind is not None:
        component = find_component(kind, f'{path}.type')
        functions = [component]
        if inspect.isclass(component):
            functions = [vars(base)['__init__'] for base in component.__mro__[:-1] if '__init__' in vars(base)]
        accepted, takes_any = set(), bool(functions)
        for parameters in (inspect.signature(function).parameters.values() for function in functions):
            accepted |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {'self'}
            takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
            if not takes_any:  # those of its base classes are not passed on
                break
        for key in node.keys() - accepted - extra - _ALWAYS_ALLOWED:
            # Where any keyword is accepted, only one that resembles a known one is an error.
            close = difflib.get_close_matches(key, accepted | extra | {'type'}, n=1, cutoff=0.85 if takes_any else 0.6)
            if close or not takes_any:
                remedy = f'did you mean {close[0]!r}?' if close else f'it takes {", ".join(sorted(accepted | extra))}'
                raise ConfigError(f'{path}.{key}: {component.__name__} has no such argument; {remedy}')
    for key, value in node.items():
        if key not in _NOT_COMPONENTS and not str(key).endswith('_kwargs'):
            _check_components(value, f'{path}.{key}', cfg)


def find_component(kind: str | Callable, path: str) -> Callable:
    """Returns the component that is registered under a name in any registry; a class is returned as it is.

    Raises:
        ConfigError: Nothing is registered under that name. The message names ``path``, the key in the config.
    """
    if not isinstance(kind, str):
        return kind
    for registry in _REGISTRIES:
        component = registry.get(kind)
        if component is not None:
            return component
    names = {known for registry in _REGISTRIES for known in registry.module_dict} | set(mmsagan_registry.ALIASES)
    close = difflib.get_close_matches(kind, names, n=1)
    remedy = f'did you mean {close[0]!r}?' if close else 'name the module of a component of your own in custom_imports'
    raise ConfigError(f'{path}={kind!r} is not registered; {remedy}')


def config_changes(cfg: Config) -> dict[str, tuple[str, str]]:
    """Compares a config, as it is now, with the files that its own file inherits.

    Args:
        cfg: Returned by :func:`load_config`, and maybe modified since.

    Returns:
        By dotted key, as ``--cfg-options`` takes it: the inherited and the present value as Python code, '' where there is
        none; without the config's variables and keys that do not affect the result, such as ``work_dir``.
    """
    if cfg.filename is None or not Path(cfg.filename).is_file():
        return {}
    bases = [] if Config._is_lazy_import(cfg.filename) else Config._get_base_files(cfg.filename)
    inherited: dict = {}
    for path in [Config._get_cfg_path(name, cfg.filename)[0] for name in bases] or [cfg.filename]:
        inherited.update(load_config(path).items())
    before, after = _flatten(inherited), _flatten(cfg)
    changes = {key: (before.get(key, ''), after.get(key, '')) for key in {**before, **after}}
    changes = {key: change for key, change in changes.items() if change[0] != change[1]}
    # A test that is changed like the validation is not listed again.
    same = {key for key in changes if key.startswith('test_') and changes.get(key.replace('test_', 'val_', 1)) == changes[key]}
    return {key: change for key, change in changes.items() if key not in same}


def _flatten(node: Any, path: str = '') -> dict[str, str]:
    """Returns the values of nested dicts, and of lists of dicts, as Python code by dotted key."""
    if isinstance(node, list) and any(isinstance(item, dict) for item in node):
        node = dict(enumerate(node))
    if not isinstance(node, (dict, Config)) or not node:
        return {path: repr(node)}
    leaves: dict[str, str] = {}
    for key, value in node.items():
        if key != '_scope_' and (path or key in _TOP_LEVEL_KEYS - {'work_dir', 'launcher', 'resume', 'experiment_name'}):
            leaves.update(_flatten(value, f'{path}.{key}' if path else str(key)))
    return leaves
