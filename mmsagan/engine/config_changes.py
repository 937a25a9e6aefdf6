"""What a config changes of what it inherits."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmsagan.engine.config import load_config

# What a training is told besides, and the result does not depend on.
_PLACES = ('work_dir', 'launcher', 'resume', 'experiment_name')
# By dotted key, as --cfg-options takes it: what it was and what it is, MISSING if it is not there.
Changes = dict[str, tuple[Any, Any]]


class _Missing:
    def __repr__(self) -> str:
        return ''


MISSING = _Missing()


def changes(old: Mapping | Config, new: Mapping | Config) -> Changes:
    """The values in which two configs differ.

    Dicts are compared key by key, and lists of the same length element by element. What is only in one of them is given value
    by value, too; what has become something else altogether, as a whole.

    Args:
        old: A config.
        new: Another one.

    Example:
        >>> changes(dict(model=dict(type='SAGAN', width=8)), dict(model=dict(type='SAGAN', width=16), seed=1))
        {'model.width': (8, 16), 'seed': (, 1)}
    """
    return dict(_walk(_plain(old), _plain(new), ''))


def changes_of_training(cfg: Config) -> tuple[list[str], Changes, Changes]:
    """What an experiment changes: its file of the files that it inherits, and the command line of the file.

    Args:
        cfg: From :func:`~mmsagan.engine.config.load_config`, and changed since. Its file is read once more.

    Returns:
        The names of the files that are inherited, as the config writes them; the changes of the file, if it inherits any; and
        the others. Places such as ``work_dir`` and the config's own variables are left out.
    """
    if cfg.filename is None or not Path(cfg.filename).is_file():  # made in Python
        return [], {}, {}
    names = base_names(cfg.filename)
    file = load_config(cfg.filename)
    of_file = changes(load_bases(cfg.filename, names), file) if names else {}
    return names, _without_repetitions(of_file), _without_repetitions(changes(file, cfg))


def _without_repetitions(found: Changes) -> Changes:
    """Leaves out places, the config's own variables, and what is said of the final test as of the evaluations."""
    used = set(inspect.signature(Runner.__init__).parameters) | {'custom_imports'}
    kept = {key: change for key, change in found.items() if key.split('.')[0] in used and key not in _PLACES}
    return {
        key: change
        for key, change in kept.items()
        if not (key.startswith('test_') and kept.get(key.replace('test_', 'val_', 1)) == change)
    }


def base_names(path: str) -> list[str]:
    """What a config file names in ``_base_``; nothing for one in MMEngine's other style, which imports."""
    return [] if Config._is_lazy_import(str(path)) else list(Config._get_base_files(str(path)))


def load_bases(path: str, names: list[str]) -> dict:
    """What a config file inherits, without what it states itself; MMEngine has made sure that no key is there twice."""
    bases = [load_config(Config._get_cfg_path(name, str(path))[0]) for name in names]
    return {key: value for base in bases for key, value in base.items()}


def as_code(value: Any) -> str:
    """A config's value as a config would state it, in one line: ``dict(type='Adam', lr=0.0002)``."""
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            return f'dict({", ".join(f"{key}={as_code(item)}" for key, item in value.items())})'
        return '{' + ', '.join(f'{key!r}: {as_code(item)}' for key, item in value.items()) + '}'
    if isinstance(value, list):
        return f'[{", ".join(map(as_code, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(as_code, value))}{"," if len(value) == 1 else ""})'
    return repr(value)


def _plain(value: Any) -> Any:
    """Without MMEngine's own dicts, and the scopes that it adds to them."""
    if isinstance(value, Config):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if key != '_scope_'}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def _walk(old: Any, new: Any, key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if type(old) is type(new) is list and len(old) == len(new):
        old, new = (dict(zip(map(str, range(len(value))), value)) for value in (old, new))
    sides = [value if isinstance(value, dict) else {} for value in (old, new) if isinstance(value, dict) or value is MISSING]
    if len(sides) == 2 and any(sides):
        for name in {**sides[0], **sides[1]}:
            yield from _walk(sides[0].get(name, MISSING), sides[1].get(name, MISSING), f'{key}.{name}' if key else name)
    elif not _is_equal(old, new):
        yield key, (old, new)


def _is_equal(old: Any, new: Any) -> bool:
    return old is new or (type(old) is type(new) and bool(old == new)) or (_is_number(old) and _is_number(new) and old == new)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
