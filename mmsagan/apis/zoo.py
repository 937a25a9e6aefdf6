"""The model zoo: configs and published models by name, as listed in model-index.yml and the metafiles that it imports."""

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from mmsagan.errors import ConfigError
from mmsagan.utils.files import shipped_root


@dataclass(frozen=True)
class ZooModel:
    """A published model."""

    name: str  # e.g. sagan_32_woReLUinplace_cifar10_b64x1_best-FID
    config: Path  # file of the config that it was trained with
    weights: str  # URL of the checkpoint


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

    A ConfigError suggests similar names.
    """
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

    A ConfigError suggests similar names.
    """
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


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=2)
    return f'; did you mean {" or ".join(close)}?' if close else ''
