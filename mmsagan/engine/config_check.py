"""Finding a config's mistakes before anything is built or written."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator

from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmsagan import registry as mmsagan_registry
from mmsagan.engine.config import LOADERS
from mmsagan.errors import ConfigError
from mmsagan.models import GeneratorEMA

# The parts of a config that the runner builds components from; whatever else a config defines is its own affair.
_SECTIONS = (
    'model',
    *LOADERS,
    *('train_cfg', 'val_cfg', 'test_cfg'),
    *('optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator'),
    *('default_hooks', 'custom_hooks', 'visualizer', 'log_processor', 'model_wrapper_cfg', 'randomness'),
)
_NEEDED_TO_TRAIN = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
_NEEDED_TO_TEST = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
# Dicts without a ``type``, and what takes their keys as arguments.
_UNTYPED = {'model.ema_config': GeneratorEMA, 'randomness': Runner.set_randomness, **{key: DataLoader for key in LOADERS}}
# Dicts whose ``type`` names something other than a registered component, or whose arguments are somebody else's.
_NOT_COMPONENTS = ('init_cfg', 'norm_cfg', 'vis_kwargs_list', 'clip_grad')
_ALWAYS_ALLOWED = {'type', '_scope_', 'priority', 'convert_to_iter_based'}
_LOADER_KEYS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn', 'num_batch_per_epoch'}
_WRAPPER_KEYS = {'optimizer', 'paramwise_cfg', 'constructor'}


def check_config(cfg: Config, training: bool = True) -> None:
    """Checks every type name, and the arguments of every component, against what is registered.

    Args:
        cfg: The config.
        training: Whether it has to describe a training; otherwise, an evaluation.

    Raises:
        ConfigError: Names the key, what was found and what it may have been meant to be.
    """
    if training and is_for_evaluation_only(cfg):
        raise ConfigError(
            'the config is for evaluation only (mmsagan test): it states neither an optimizer nor a number of iterations; to '
            'train, inherit a file in configs/_base_/schedules and set train_cfg.max_iters'
        )
    _check_top_level(cfg, _NEEDED_TO_TRAIN if training else _NEEDED_TO_TEST)
    if training:
        _check_training(cfg)
    for section in _SECTIONS:
        for path, node in _walk(cfg.get(section), section):
            component, extra = _component_of(path, node, cfg)
            if component is not None:
                _check_arguments(path, node, component, extra)


def is_for_evaluation_only(cfg: Config) -> bool:
    """Whether a config says how to evaluate, and nothing about how or how long to train."""
    wrapper = cfg.get('optim_wrapper') or {}
    has_optimizer = 'optimizer' in wrapper or any(isinstance(part, dict) and 'optimizer' in part for part in wrapper.values())
    has_length = {'type', 'max_iters', 'max_epochs'} & set(cfg.get('train_cfg') or {})
    return bool(cfg.get('test_evaluator')) and not has_optimizer and not has_length


def _check_top_level(cfg: Config, needed: Iterable[str]) -> None:
    known = set(inspect.signature(Runner.__init__).parameters) | {'model_wrapper_cfg', 'custom_imports'}
    for key, value in cfg.items():
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.92)
        if isinstance(value, dict) and key not in known and close:
            raise ConfigError(f'unknown key {key!r}; did you mean {close[0]!r}?')
    for key in needed:
        if not isinstance(cfg.get(key), dict) and not (key == 'test_evaluator' and cfg.get(key)):
            raise ConfigError(f'the config has no {key}=dict(...); inherit it from a file in configs/_base_ or state it')


def _check_training(cfg: Config) -> None:
    if 'type' not in cfg.train_cfg and not cfg.train_cfg.get('by_epoch') and 'max_iters' not in cfg.train_cfg:
        raise ConfigError('train_cfg has no max_iters, the number of iterations to train')
    if cfg.train_dataloader.get('batch_size', 1) < 1:
        raise ConfigError(f'train_dataloader.batch_size={cfg.train_dataloader.batch_size}; it must be at least 1')


def _walk(node, path: str) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            if key not in _NOT_COMPONENTS and not str(key).endswith('_kwargs'):
                yield from _walk(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}[{index}]')


def _component_of(path: str, node: dict, cfg: Config) -> tuple[Callable | None, set[str]]:
    """What a dict of the config will be built into, and the keys that its builder takes itself."""
    if path in _UNTYPED:
        return _UNTYPED[path], _LOADER_KEYS if path in LOADERS else set()
    if path == 'train_cfg' and 'type' not in node:
        return find_component('EpochBasedTrainLoop' if node.get('by_epoch') else 'IterBasedTrainLoop', path), {'by_epoch'}
    if path == 'optim_wrapper':
        for key in ('type', 'constructor'):
            if isinstance(node.get(key), str):
                find_component(node[key], f'{path}.{key}')
        return None, set()
    kind = node.get('type')
    if path.startswith('optim_wrapper.') and 'optimizer' in node:
        kind = kind or cfg.optim_wrapper.get('type', 'OptimWrapper')
        return find_component(kind, f'{path}.type'), _WRAPPER_KEYS
    return (find_component(kind, f'{path}.type') if kind is not None else None), set()


def _registries() -> Iterable[Registry]:
    for module in (mmsagan_registry, mmengine_registry):
        yield from (value for value in vars(module).values() if isinstance(value, Registry))


def find_component(kind: str | Callable, path: str) -> Callable:
    """The component registered by a name, in whichever registry; a class stands for itself.

    Raises:
        ConfigError: Nothing is registered by that name; ``path`` says in which key it stands.
    """
    if not isinstance(kind, str):
        return kind
    for registry in _registries():
        component = registry.get(kind)
        if component is not None:
            return component
    names = {known for registry in _registries() for known in registry.module_dict} | set(mmsagan_registry.ALIASES)
    close = difflib.get_close_matches(kind, names, n=1)
    raise ConfigError(
        f'{path}={kind!r} is not registered'
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
