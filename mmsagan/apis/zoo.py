"""The model zoo: published models by name. What is published stands in model-index.yml and the metafiles that it imports."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from mmsagan.errors import ConfigError
from mmsagan.utils.files import shipped_root


@dataclass(frozen=True)
class ZooModel:
    """A published model.

    Args:
        name: Its name, e.g. ``sagan_32_woReLUinplace_cifar10_b64x1_best-FID``.
        config: File of the config that it was trained with.
        weights: URL of the checkpoint.
        metrics: The published scores, e.g. ``{'IS': 9.3174, 'FID': 9.4252}``.
        metadata: How it was trained: data, batch size, iterations and what else the metafile states.
    """

    name: str
    config: Path
    weights: str
    metrics: Mapping[str, float]
    metadata: Mapping[str, object]


def list_models() -> list[ZooModel]:
    """All published models. Of the models of a config, the one with the best FID comes first.

    Raises:
        ConfigError: The package's files are incomplete.

    Example:
        >>> [model.name for model in list_models() if model.metrics['FID'] < 10]
        ['sagan_32_woReLUinplace_cifar10_b64x1_best-FID']
    """
    return list(_published(shipped_root()))


def resolve_model(name: str | Path) -> ZooModel:
    """The published model of a name.

    Args:
        name: Of the model; or of its config, with or without ``.py``; or a file of that name. A config stands for its model
            with the best FID.

    Raises:
        ConfigError: Nothing is published by that name; names what is.

    Example:
        >>> resolve_model('sagan_128_woReLUinplace_imagenet1k_b64x4').metadata['Checkpoint Iteration']
        950000
    """
    models = list_models()
    wanted = _stem(name)
    # A model's own name first: it may also be the name of a config.
    for own_name in (lambda model: model.name, lambda model: model.config.stem):
        for model in models:
            if own_name(model) == wanted:
                return model
    configs = sorted({model.config.stem for model in models})
    suggestion = _suggestion(wanted, [*configs, *(model.name for model in models)])
    raise ConfigError(f'{name} has no published weights{suggestion}; there are weights of {", ".join(configs)}')


def resolve_weights(name: str | Path) -> str:
    """The URL of a model's weights.

    Args:
        name: As :func:`resolve_model` takes it.

    Raises:
        ConfigError: Nothing is published by that name; names what is.
    """
    return resolve_model(name).weights


def resolve_config(name: str | Path) -> Path:
    """The file of a config.

    Args:
        name: A file; or a config of this package by its name, with or without its folder and ``.py``; or a published model.

    Raises:
        ConfigError: There is none by that name; suggests similar ones.

    Example:
        >>> resolve_config('sagan/sagan_32_mnist_b64x1.py').name
        'sagan_32_mnist_b64x1.py'
    """
    if Path(name).expanduser().is_file():
        return Path(name).expanduser()
    leaves = [path for path in shipped_root().glob('configs/*/*.py') if path.parent.name != '_base_']
    models = list_models()
    wanted = Path(str(name).removesuffix('.py')).parts
    for path in leaves:
        if wanted and path.with_suffix('').parts[-len(wanted) :] == wanted:
            return path
    for model in models:
        if model.name == str(name):
            return model.config
    configs = sorted({path.stem for path in leaves})
    hint = _suggestion(_stem(name), [*configs, *(model.name for model in models)]) or f'; there are {", ".join(configs)}'
    raise ConfigError(f'{name} is neither a file nor the name of a config or of a published model{hint}')


@cache
def _published(root: Path) -> tuple[ZooModel, ...]:
    metafiles = [_read(root / name) for name in _read(root / 'model-index.yml')['Import']]
    return tuple(_as_model(entry, root) for metafile in metafiles for entry in metafile['Models'])


def _read(path: Path) -> dict:
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f'{path} cannot be read ({error}): install mmsagan again') from error


def _as_model(entry: dict, root: Path) -> ZooModel:
    metrics = {name: value for result in entry['Results'] for name, value in result['Metrics'].items()}
    return ZooModel(entry['Name'], root / entry['Config'], entry['Weights'], metrics, entry['Metadata'])


def _stem(name: str | Path) -> str:
    return Path(name).name.removesuffix('.py')


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=2)
    return f'; did you mean {" or ".join(close)}?' if close else ''
