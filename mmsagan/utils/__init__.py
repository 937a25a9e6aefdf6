"""Helpers that any part of the package may use."""

import importlib
from types import ModuleType

from mmengine import DefaultScope

from mmsagan.errors import ConfigError
from mmsagan.registry import SCOPE

_COMPONENT_MODULES = ('mmcv.transforms', 'mmsagan.models', 'mmsagan.datasets', 'mmsagan.evaluation', 'mmsagan.engine')


class OptionText(str):
    """What was typed after ``--cfg-options KEY=``. Which value that is depends on the one that it replaces."""


def import_optional(package: str, extra: str) -> ModuleType:
    """Imports a package that is no dependency; without it, a ConfigError names the extra of this package that brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f'this needs {package} ({error}): pip install "mmsagan[{extra}]"') from error


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, such as ``1 image`` or ``2 images``; ``es`` follows a noun that ends with s."""
    return f'{number} {noun}' + ('' if number == 1 else 'es' if noun.endswith('s') else 's')


def register_all_modules() -> None:
    """Imports all modules that register components, and makes their scope the default one.

    From then on, MMEngine loads checkpoints without running code from them.
    """
    for module in _COMPONENT_MODULES:
        importlib.import_module(module)
    importlib.import_module('mmsagan.checkpoints').register_checkpoint_loaders()
    current = DefaultScope.get_current_instance()
    if current is None or current.scope_name != SCOPE:
        DefaultScope.get_instance(f'{SCOPE}-{id(current)}', scope_name=SCOPE)
