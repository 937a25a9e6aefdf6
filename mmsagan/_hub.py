"""Lets MMEngine find this package's configs: ``mmengine.hub.get_config('mmsagan::sagan/...')``, ``_base_ = 'mmsagan::...'``.

MMEngine serves only the packages that stand in a table of its own, ``mmengine.config.utils.MODULE2PACKAGE``, and offers no
other way into it. Importing ``mmsagan`` adds the entry. Who only imports MMEngine expects ``get_config`` to work as well, so an
installation also has a copy of this file, ``_mmsagan_hub.py``, and a ``mmsagan-hub.pth`` that has Python call its
:func:`install` when it starts (see setup.py). That is why this module imports nothing of the package, nothing at all until
MMEngine's table is loaded, and never raises.
"""

import sys

PACKAGE = 'mmsagan'
TABLE_MODULE = 'mmengine.config.utils'


def install() -> None:
    """Adds the entry: now if MMEngine's table is loaded, otherwise when it will be, and without loading it."""
    if TABLE_MODULE in sys.modules:
        _add_entry(sys.modules[TABLE_MODULE])
    elif _TableFinder not in sys.meta_path:
        sys.meta_path.insert(0, _TableFinder)


def _add_entry(module) -> None:
    getattr(module, 'MODULE2PACKAGE', {}).setdefault(PACKAGE, PACKAGE)


class _TableFinder:
    """Finds the module that holds MMEngine's table, and no other, as Python itself would; adds the entry once it is loaded."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != TABLE_MODULE:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_add(module):
            load(module)
            _add_entry(module)

        spec.loader.exec_module = load_and_add
        return spec
