"""Configs and models by name: those of model-index.yml and the metafiles that it imports, and the Hugging Face Hub's."""

import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from mmengine.registry import MODELS as ROOT_MODELS

from mmsagan.errors import ConfigError
from mmsagan.models.layers.init import INIT_SCHEMES
from mmsagan.registry import ALIASES, MODELS
from mmsagan.utils import register_all_modules
from mmsagan.utils.download import HUB, hub_file
from mmsagan.utils.files import shipped_root

HUB_KEYS = {'library_name', 'mmsagan_version', 'model', 'dataset_meta'}  # of the config.json of a repository


@dataclass(frozen=True)
class ZooModel:
    """A published model."""

    name: str  # e.g. sagan_32_woReLUinplace_cifar10_b64x1_best-FID
    config: Path  # file of the config that it was trained with
    weights: str  # URL of the checkpoint, or a repository


@cache
def list_models() -> tuple[ZooModel, ...]:
    """Lists all published models. Of the models of a config, the one with the best FID comes first."""
    root, models = shipped_root(), []
    for metafile in yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))['Import']:
        for entry in yaml.safe_load((root / metafile).read_text(encoding='utf-8'))['Models']:
            models.append(ZooModel(entry['Name'], root / entry['Config'], entry['Weights']))
    return tuple(models)


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
    hint = _suggest(wanted, [*configs, *(model.name for model in models)])
    raise ConfigError(f'{name} has no published weights{hint}; there are weights of {", ".join(configs)}')


def resolve_config(name: str | Path) -> Path:
    """Finds a config by its file, by its name in this package (its folder and ``.py`` are optional), or by a published model's.

    That of a repository, ``hf://user/repo``, is downloaded. A ConfigError suggests similar names.
    """
    if str(name).startswith(HUB):
        return _check_hub_config(hub_file(str(name), 'config.json'), str(name))
    if Path(name).expanduser().is_file():
        return Path(name).expanduser()
    leaves = [path for path in shipped_root().glob('configs/*/*.py') if path.parent.name != '_base_']
    models = list_models()
    wanted = Path(str(name).removesuffix('.py')).parts
    found = [path for path in leaves if wanted and path.with_suffix('').parts[-len(wanted) :] == wanted]
    found += [model.config for model in models if model.name == str(name)]
    if found:
        return found[0]
    configs = sorted({path.stem for path in leaves})
    hint = _suggest(Path(name).name.removesuffix('.py'), [*configs, *(model.name for model in models)])
    hint = hint or f'; there are {", ".join(configs)}'
    raise ConfigError(f'{name} is neither a file nor the name of a config or of a published model{hint}')


def _check_hub_config(path: Path, name: str) -> Path:
    """Raises a ConfigError unless a file only names registered components and their arguments: it may be anybody's."""
    register_all_modules()
    known = {*MODELS.module_dict, *ROOT_MODELS.module_dict, *ALIASES, *INIT_SCHEMES}
    try:
        text = path.read_text(encoding='utf-8')
        content = json.loads(text)
        nodes, others = [content['model']], content.keys() - HUB_KEYS
        if others or '{{' in text or 'init_from' in content['model']:  # MMEngine replaces what is in double braces
            raise ValueError(f'more than the architecture of a model: {", ".join(sorted(others)) or "init_from, or {{"}')
        while nodes:
            node = nodes.pop()
            if isinstance(node, dict) and node.get('type', 'SAGAN') not in known:
                raise ValueError(f'unknown type {node["type"]!r}; for a component of your own, give the config that imports it')
            nodes += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(f'{name}: config.json does not describe a model of mmsagan: {error}') from error
    return path


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=2)
    return f'; did you mean {" or ".join(close)}?' if close else ''
