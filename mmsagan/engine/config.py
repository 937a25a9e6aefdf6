"""Loading, completing, checking and comparing configs."""

import ast
import difflib
import inspect
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin

from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmsagan import registry as mmsagan_registry
from mmsagan.checkpoints.architecture import read_config_text, read_literal
from mmsagan.checkpoints.transfer import InitFrom
from mmsagan.errors import ConfigError
from mmsagan.models import GeneratorEMA
from mmsagan.utils import OptionText, register_all_modules

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_RUNNER_ARGUMENTS = inspect.signature(Runner.__init__).parameters
_TOP_LEVEL_KEYS = {*_RUNNER_ARGUMENTS, 'model_wrapper_cfg', 'custom_imports'}
_FORMER_KEYS = dict(  # what MMGeneration called them
    checkpoint_config='default_hooks.checkpoint',
    data='train_dataloader',
    evaluation='val_evaluator and train_cfg.val_interval',
    lr_config='param_scheduler',
    optimizer='optim_wrapper',
    resume_from='load_from, with resume=True',
    runner='train_cfg',
    total_iters='train_cfg.max_iters',
)
_REGISTRIES = [
    value for module in (mmsagan_registry, mmengine_registry) for value in vars(module).values() if isinstance(value, Registry)
]
# Dicts without a ``type``, and the callables that take their keys as arguments.
_UNTYPED = {'model.ema_config': GeneratorEMA, 'model.init_from': InitFrom, 'randomness': Runner.set_randomness}
_UNTYPED.update(dict.fromkeys(LOADERS, DataLoader))
# Dicts whose ``type`` is not the name of a registered component, or whose arguments are not ours to check.
_NOT_COMPONENTS = ('init_cfg', 'norm_cfg', 'vis_kwargs_list', 'clip_grad')
_ALWAYS_ALLOWED = {'type', '_scope_', 'priority', 'convert_to_iter_based'}
_LOADER_KEYS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn', 'num_batch_per_epoch'}
_WRAPPER_KEYS = {'optimizer', 'paramwise_cfg', 'constructor'}
# The values that are right where an annotation names a type; arguments that are annotated with others, too, are not checked.
_VALUES: dict[type, Any] = {int: int, float: (int, float), bool: (bool, int), str: str, dict: dict, list: (list, tuple)}
_VALUES[NoneType] = NoneType
# Where there is no annotation, or one that is too narrow or, as in PyTorch's data loader, only a text.
_ANNOTATIONS: dict[str, Any] = dict(batch_size=int | None, num_workers=int, prefetch_factor=int | None, seed=int | None)
_ANNOTATIONS.update(dataset=dict, sampler=dict, resume=bool | str, loss_scale=float | str | dict)
_AT_LEAST_1 = ('batch_size', 'per_class', 'val_interval', 'max_iters', 'max_epochs', 'max_failures', 'max_skipped_in_a_row')
_QUOTED = r"""'[^']*'|"[^"]*\""""


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Registers all components, reads a config file and sets ``options``, dotted keys and their new values.

    Whatever is wrong with the file, its bases or the options is a ConfigError.
    """
    register_all_modules()
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:  # a config is the user's Python and can raise anything
        raise ConfigError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
    merge_options(cfg, options or {})
    # The ``_scope_`` that MMEngine adds to what is inherited from ``mmsagan::`` would be passed to a ``collate_fn``.
    nodes: list = list(cfg.values()) if cfg.get('default_scope') == mmsagan_registry.SCOPE else []
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict) and node.get('_scope_') == mmsagan_registry.SCOPE:
            del node['_scope_']
        if isinstance(node, (dict, list, tuple)):
            nodes += node.values() if isinstance(node, dict) else node
    for key in _RUNNER_ARGUMENTS.keys() & cfg.keys():
        _check_value(cfg, key, _RUNNER_ARGUMENTS[key], key)
    for key in LOADERS:  # PyTorch refuses persistent workers if there are none
        if isinstance(cfg.get(key), dict) and not cfg[key].get('num_workers'):
            cfg[key]['persistent_workers'] = False
    return cfg


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Sets dotted keys of a config to new values. Raises a ConfigError if a key is unknown or a value cannot be read."""
    values = {}
    for path, value in options.items():
        parent, _, key = path.rpartition('.')
        top, node, parameters = path.partition('.')[0], cast(Any, cfg), dict(_RUNNER_ARGUMENTS)
        if top not in {*_TOP_LEVEL_KEYS, 'dataset'}:
            remedies = [f'did you mean {close!r}?' for close in difflib.get_close_matches(top, _TOP_LEVEL_KEYS, n=1)]
            remedies = [f'it is {_FORMER_KEYS[top]} here'] if top in _FORMER_KEYS else remedies
            remedies += ['the config has used the value of this variable already'] if top in cfg else []
            raise ConfigError('; '.join([f'--cfg-options {path}: unknown key {top!r}', *remedies]))
        with suppress(LookupError, ValueError, TypeError, AttributeError, ConfigError):  # it does not exist yet
            for part in parent.split('.') if parent else ():
                node = node[int(part) if isinstance(node, (list, tuple)) else part]
            parameters = _find_parameters(node, parent, cfg)[1] if parent else parameters
        is_set = isinstance(node, (dict, Config)) and key in node
        base = node[key] if is_set else None
        if isinstance(value, OptionText):
            types = _types(key, parameters[key]) if base is None and key in parameters else set()
            is_string = isinstance(base, str) or (str in types and not types & {int, float, bool, list})
            value = _read_option(path, str(value), base, is_string)
        # MMEngine refuses to put a dict in the place of None.
        replaces = is_set and isinstance(value, dict) and not isinstance(base, dict)
        values[path] = dict(value, _delete_=True) if replaces else value
    try:
        cfg.merge_from_dict(values)
    except (KeyError, TypeError, IndexError, AssertionError, AttributeError) as error:
        raise ConfigError(f'--cfg-options {dict(options)}: {error}') from error


def _read_option(path: str, text: str, base: Any, is_string: bool) -> Any:
    """Reads a value that was typed in the place of ``base``; a string is taken as it stands, unless it is quoted or None."""
    stripped = text.strip()
    outside_quotes = re.sub(_QUOTED, "''", stripped)
    if stripped == 'None':
        return None
    if is_string and outside_quotes == stripped:
        return text
    if stripped.lower() in ('true', 'false'):
        return stripped.lower() == 'true'
    for kind in (int, float) if type(base) in (int, float) else ():
        with suppress(ValueError):
            return kind(stripped)
    if not re.search(r'\d_\d|(?<![\w.+-])0\w', outside_quotes):  # 2024_05 and 007 are names
        with suppress(SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            value = read_literal(ast.parse(stripped, mode='eval').body)
            return list(value) if isinstance(value, tuple) and stripped[0] != '(' else value
    is_bracketed = re.fullmatch(r'(dict)?\(.*\)|\[.*\]|\{.*\}', stripped, re.DOTALL)
    items = re.findall(rf'(?:{_QUOTED}|[^,])+', stripped[1:-1] if is_bracketed else stripped)
    is_list = isinstance(base, (list, tuple)) or all(re.fullmatch(r'[\w.+-]+', item) for item in items)
    if is_string or not (is_bracketed or (len(items) > 1 and is_list)):
        return text  # a path, or a sentence
    if is_bracketed and (stripped[0] not in '[(' or any(set(item) & set('=(){}[]') for item in items)):
        raise ConfigError(f'--cfg-options {path}={text}: expected a value as in Python, with quotes around strings')
    like = base[0] if isinstance(base, (list, tuple)) and base else None
    return [_read_option(path, item.strip(), like, isinstance(like, str)) for item in items]


def complete_loader(cfg: Config, mode: str) -> dict:
    """Returns the data loader config of ``'train'``, ``'val'`` or ``'test'``.

    A ``dataset`` without a ``type`` inherits from the training's data set, or with ``train_dataloader=None``, as in configs for
    evaluation only, from the config's variable ``dataset``, which all files in ``configs/_base_/datasets`` set.
    """
    loader = dict(dict(batch_size=64), **(cfg.get(f'{mode}_dataloader') or {}))
    if isinstance(loader.get('dataset', {}), dict) and 'type' not in loader.get('dataset', {}):
        inherited = (cfg.get('train_dataloader') or cfg).get('dataset')
        if inherited and not cfg.get('train_dataloader'):
            print_log(f"{mode}_dataloader takes its data from the config's variable 'dataset'", logger='current')
        if isinstance(inherited, dict):
            loader['dataset'] = dict(inherited, **loader.get('dataset', {}))
    return loader


def complete_evaluation(cfg: Config, mode: str) -> bool:
    """Makes data loader, loop and evaluator of ``'val'`` or ``'test'`` complete or None, as MMEngine's runner requires.

    The test's loader and evaluator default to those of the validation. Returns whether there is an evaluator.
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
def config_errors(what: str = 'the experiment cannot be built') -> Iterator[None]:
    """Turns errors about wrong arguments, raised while components are built, into a ConfigError that says ``what`` is wrong."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AssertionError) as error:
        raise ConfigError(f'{what}: {type(error).__name__}: {error}') from error


def check_config(cfg: Config, training: bool | None = True) -> None:
    """Checks all type names and arguments in a config before anything is built. Raises a ConfigError that names the key.

    With ``training`` it has to describe a training, else an evaluation; with None, whichever it has the optimizers for.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    has_optimizer = 'optimizer' in wrapper or any(isinstance(part, dict) and 'optimizer' in part for part in wrapper.values())
    has_length = {'type', 'max_iters', 'max_epochs'} & set(cfg.get('train_cfg') or {})
    training = bool(has_optimizer or has_length or not cfg.get('test_evaluator')) if training is None else training
    for key, value in cfg.items():
        # Any other key is a variable of the config.
        resembles = difflib.get_close_matches(key, _TOP_LEVEL_KEYS, n=1, cutoff=0.8)
        if key in _FORMER_KEYS or (resembles and value is not None and key not in _TOP_LEVEL_KEYS and key[0] != '_'):
            remedy = f'it is {_FORMER_KEYS[key]} here' if key in _FORMER_KEYS else f'did you mean {resembles[0]!r}?'
            raise ConfigError(f'unknown key {key!r}; {remedy}')
    for key in ('model', *(('train_dataloader', 'train_cfg', 'optim_wrapper') if training else ('test_evaluator',))):
        if not cfg.get(key):
            raise ConfigError(f'the config has no {key}; inherit it from a file in configs/_base_ or set it')
    if training and not {'type', 'max_iters'} & set(cfg.train_cfg) and not cfg.train_cfg.get('by_epoch'):
        raise ConfigError('train_cfg has no max_iters, the number of iterations to train')
    for key in [key for key in cfg.keys() if key in _TOP_LEVEL_KEYS]:
        _check_components(cfg[key], key, cfg)


def _find_parameters(node: Any, path: str, cfg: Config) -> tuple[Callable | None, dict[str, inspect.Parameter], bool]:
    """Returns what a dict is built into, its parameters by name, and whether any other keyword is accepted."""
    kind, extra = node.get('type'), set()
    if path in _UNTYPED:
        kind, extra = _UNTYPED[path], _LOADER_KEYS if path in LOADERS else set()
    elif path == 'train_cfg' and kind is None:
        kind, extra = 'EpochBasedTrainLoop' if node.get('by_epoch') else 'IterBasedTrainLoop', {'by_epoch'}
    elif path == 'optim_wrapper':
        for key in {'type', 'constructor'} & set(node):
            find_component(node[key], f'{path}.{key}')
        # Beside the networks' wrappers, it has defaults for all of them.
        return None, _find_parameters(dict(type=kind or 'OptimWrapper'), '', cfg)[1], True
    elif path.startswith('optim_wrapper.') and 'optimizer' in node:
        kind, extra = kind or cfg.optim_wrapper.get('type', 'OptimWrapper'), _WRAPPER_KEYS
    if kind is None:
        return None, {}, True
    component = find_component(kind, f'{path}.type')
    functions = [component]
    if inspect.isclass(component):
        functions = [vars(base)['__init__'] for base in component.__mro__[:-1] if '__init__' in vars(base)]
    accepted = {key: inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY) for key in extra}
    takes_any = bool(functions)
    for parameters in (inspect.signature(function).parameters.values() for function in functions):
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != 'self']
        accepted = {**{p.name: p for p in named}, **accepted}
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        if not takes_any:  # those of its base classes are not passed on
            break
    return component, accepted, takes_any


def _check_components(node: Any, path: str, cfg: Config) -> None:
    """Checks the types and the arguments of all components that are built from a config's section."""
    for index, value in enumerate(node) if isinstance(node, (list, tuple)) else ():
        _check_components(value, f'{path}[{index}]', cfg)
    if not isinstance(node, dict):
        return
    component, accepted, takes_any = _find_parameters(node, path, cfg)
    for key in node.keys() - accepted.keys() - _ALWAYS_ALLOWED if component is not None else ():
        # Where any keyword is accepted, only one that resembles a known one is an error.
        close = difflib.get_close_matches(key, [*accepted, 'type'], n=1, cutoff=0.85 if takes_any else 0.6)
        if close or not takes_any:
            remedy = f'did you mean {close[0]!r}?' if close else f'it takes {", ".join(sorted(accepted))}'
            raise ConfigError(f'{path}.{key}: {component.__name__} has no such argument; {remedy}')
    for key in node.keys() & accepted.keys():
        _check_value(node, key, accepted[key], f'{path}.{key}')
    if re.match(r'default_hooks\.\w+$|custom_hooks\[\d+\]$|param_scheduler', path) and component is not None:
        train, default = cfg.get('train_cfg') or {}, getattr(accepted.get('by_epoch'), 'default', False) is True
        has_epochs = train.get('by_epoch') or 'max_epochs' in train or node.get('convert_to_iter_based')
        if train and node.get('by_epoch', default) and not has_epochs:
            raise ConfigError(f'{path}.by_epoch must be False: without epochs, {component.__name__} would not act')
    elif path.startswith('default_hooks.') and path.count('.') == 1 and 'type' not in node:
        raise ConfigError(f'{path} has no type')
    for key, value in node.items():
        if key not in _NOT_COMPONENTS and not str(key).endswith('_kwargs'):
            _check_components(value, f'{path}.{key}', cfg)


def _check_value(node: Any, key: str, parameter: inspect.Parameter, path: str) -> None:
    """Raises a ConfigError unless a value is of the type that its argument is annotated with, and in its range."""
    value, types = node[key], _types(key, parameter) - {Tensor}
    if key == path:  # an argument of the runner, which also takes what has been built
        types = (types & _VALUES.keys()) | {NoneType}
    if isinstance(value, float) and value.is_integer() and int in types and float not in types:  # 1e4
        value = node[key] = int(value)
    is_checked = types and types <= _VALUES.keys() and value is not parameter.default
    if is_checked and not isinstance(value, tuple(_VALUES[kind] for kind in types)):
        expected = ' or '.join(sorted(kind.__name__ for kind in types)).replace('NoneType', 'None')
        raise ConfigError(f'{path}={reprlib.repr(value)}: it must be {expected}')
    if key in _AT_LEAST_1 and isinstance(value, (int, float)) and value < 1:
        raise ConfigError(f'{path}={value}: it must be at least 1')


def _types(key: str, parameter: inspect.Parameter) -> set[Any]:
    """Returns the types that an annotation allows, without those of elements."""
    annotation = _ANNOTATIONS.get(key, parameter.annotation)
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    kinds = [get_origin(kind) or kind for kind in kinds]
    return {list if kind in (tuple, Sequence) else dict if kind is Mapping else kind for kind in kinds}


def find_component(kind: str | Callable, path: str) -> Callable:
    """Returns what is registered under a name in any registry, and a class as it is; a ConfigError names ``path``, its key."""
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
    """Compares a config that :func:`load_config` returned, as it is now, with the files that its own file inherits.

    Returns the inherited and the present value as Python code, '' where there is none, by dotted key; without the config's
    variables and keys that do not affect the result, such as ``work_dir``.
    """
    if cfg.filename is None or not Path(cfg.filename).is_file():
        return {}
    bases = [] if Config._is_lazy_import(cfg.filename) else Config._get_base_files(cfg.filename)
    inherited: dict = {}
    for path in [Config._get_cfg_path(name, cfg.filename)[0] for name in bases] or [cfg.filename]:
        inherited.update(load_config(path).items())
    changes = _compare(inherited, cfg)
    # A test that is changed like the validation is not listed again.
    same = {key for key in changes if key.startswith('test_') and changes.get(key.replace('test_', 'val_', 1)) == changes[key]}
    return {key: change for key, change in changes.items() if key not in same}


def changes_since(text: Any, cfg: Config) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Compares the text of a config in a checkpoint, which is not executed, with a config.

    Returns what :func:`config_changes` does, and the names of the values that are not plain data in either of them.
    """
    (before, unreadable), (after, others) = read_config_text(text), read_config_text(cfg.pretty_text)
    unreadable = list(dict.fromkeys(unreadable + others))
    if not before or not after:
        return {}, unreadable
    before, after = ({key: value for key, value in values.items() if key not in unreadable} for values in (before, after))
    return _compare(before, after), unreadable


def _compare(before: Any, after: Any) -> dict[str, tuple[str, str]]:
    before, after = _flatten(before), _flatten(after)
    values = {key: (before.get(key, ''), after.get(key, '')) for key in {**before, **after}}
    return {key: change for key, change in values.items() if change[0] != change[1]}


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
