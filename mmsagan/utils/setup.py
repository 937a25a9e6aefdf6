"""Making the package's components known to the registries."""

import importlib

from mmengine import DefaultScope

from mmsagan.registry import SCOPE

_COMPONENT_MODULES = ('mmcv.transforms', 'mmsagan.models', 'mmsagan.datasets', 'mmsagan.evaluation', 'mmsagan.engine')


def register_all_modules(init_default_scope: bool = True) -> None:
    """Imports every module that registers a component, and makes MMEngine read checkpoints without running code from them.

    Args:
        init_default_scope: Also make ``mmsagan`` the scope in which type names without a prefix are looked up.

    Example:
        >>> register_all_modules()
        >>> from mmsagan.registry import MODELS
        >>> generator = MODELS.build(dict(type='SAGANGenerator', output_scale=32, num_classes=10))
    """
    for module in _COMPONENT_MODULES:
        importlib.import_module(module)
    importlib.import_module('mmsagan.checkpoints').register_checkpoint_loaders()
    if init_default_scope:
        current = DefaultScope.get_current_instance()
        if current is None or current.scope_name != SCOPE:
            DefaultScope.get_instance(f'{SCOPE}-{id(current)}', scope_name=SCOPE)
