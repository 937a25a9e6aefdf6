"""Configs and models by name: those of model-index.yml and the metafiles that it imports, and the Hugging Face Hub's."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mmengine.registry import MODELS as ROOT_MODELS

from mmsagan.errors import ConfigError
from mmsagan.models.layers.init import INIT_SCHEMES
from mmsagan.registry import ALIASES, MODELS
from mmsagan.utils import register_all_modules
from mmsagan.utils.download import HUB, hub_file
from mmsagan.utils.files import ZooModel, find_config, list_models, suggest

__all__ = ['ZooModel', 'check_hub_config', 'list_models', 'resolve_config', 'resolve_model']
# Left out of a published config: they matter in training only, name a file, or select a compiler.
TRAINING_KEYS = ('augment', 'regularizers', 'init_from', 'compile_cfg')
HUB_KEYS = {'library_name', 'mmsagan_version', 'model', 'dataset_meta'}  # of the config.json of a repository


def resolve_model(name: str | Path) -> ZooModel:
    """Returns the published model of a name, or of the name or file of a config: that config's model with the best FID.

    ``hf://user/repo`` is a model of its own. A ConfigError suggests similar names.
    """
    if str(name).startswith(HUB):
        return ZooModel(str(name), resolve_config(name), str(name))
    models, wanted = list_models(), Path(name).name.removesuffix('.py')
    # A model's own name comes first, since it may also be the name of a config.
    named = [model for model in models if model.name == wanted] or [model for model in models if model.config.stem == wanted]
    if named:
        return named[0]
    configs = sorted({model.config.stem for model in models})
    hint = suggest(wanted, [*configs, *(model.name for model in models)])
    raise ConfigError(f'{name} has no published weights{hint}; there are weights of {", ".join(configs)}')


def resolve_config(name: str | Path) -> Path:
    """Finds a config by its file, by its name in this package (its folder and ``.py`` are optional), or by a published model's.

    That of a repository, ``hf://user/repo``, is downloaded. A ConfigError suggests similar names.
    """
    if str(name).startswith(HUB):
        return check_hub_config(hub_file(str(name), 'config.json'), str(name))
    return find_config(name)


def check_hub_config(path: Path, name: str) -> Path:
    """Raises a ConfigError unless a file holds nothing but the architecture of a model: it comes from an untrusted source.

    Types have to be registered components, since MMEngine imports modules to find others, or those that ``_scope_`` names.
    """
    register_all_modules()
    ours = {*MODELS.module_dict, *(alias for alias, kind in ALIASES.items() if kind in MODELS.module_dict)}
    known = {'init_cfg': {*INIT_SCHEMES}, 'act_cfg': {*ROOT_MODELS.module_dict}}

    def check(node: Any, types: Collection[str]) -> None:
        if isinstance(node, dict):
            refused = [key for key in node if key.startswith('_') or key in TRAINING_KEYS]
            if refused or ('type' in node and node['type'] not in types):
                found = f'{refused[0]} is not allowed' if refused else f'unknown type {node["type"]!r}'
                raise ValueError(f'{found}; for components of your own, give the config that imports them')
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            check(value, known.get(str(key), ours))

    try:
        text = path.read_text(encoding='utf-8')
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get('model'), dict):
            raise ValueError('it has no "model"')
        if content.keys() - HUB_KEYS or '{{' in text:  # MMEngine replaces what is in double braces
            raise ValueError(f'unexpected keys: {", ".join(sorted(content.keys() - HUB_KEYS)) or "{{"}')
        classes = content.get('dataset_meta', {}).get('classes', [])
        if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
            raise ValueError('dataset_meta.classes is no list of names')
        check(content['model'], ours)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f'{name}: config.json does not describe a model of mmsagan: {error}') from error
    return path
