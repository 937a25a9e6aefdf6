"""Checking the images that a config trains on, or those of a folder."""

from collections.abc import Mapping
from pathlib import Path

from mmsagan.apis.running import config_mistakes
from mmsagan.apis.zoo import resolve_config
from mmsagan.datasets.base import ClassImageDataset
from mmsagan.datasets.checking import DataReport, check_dataset
from mmsagan.engine.config import complete_loader, load_config
from mmsagan.engine.config_check import find_component
from mmsagan.errors import ConfigError
from mmsagan.utils import register_all_modules


def check_data(source: str | Path, size: int | None = None, cfg_options: Mapping | None = None, workers: int = 1) -> DataReport:
    """Reads every image of a training data set once.

    Args:
        source: A folder with one folder of images a class; or a config, by its file or its name.
        size: Of the networks' images in pixels; None takes the config's.
        cfg_options: Dotted config keys and their new values.
        workers: Processes that read files.

    Returns:
        What there is and what is wrong with it; ``findings()`` is empty if nothing is.

    Raises:
        ConfigError: There is no such config, or it trains on nothing that has classes.
        DataError: The data set is missing or damaged as a whole.
    """
    register_all_modules()
    if Path(source).is_dir():
        return check_dataset(_build(dict(type='ImageFolder', data_root=str(source))), size, workers=workers)
    config = load_config(resolve_config(source), dict(cfg_options or {}))
    data = complete_loader(config, 'train').get('dataset')
    if not data or 'type' not in data:
        raise ConfigError(f'{source} has no train_dataloader with a dataset')
    model = config.get('model') or {}
    size = size or (model.get('generator') or {}).get('output_scale')
    return check_dataset(_build(data), size, model.get('num_classes'), workers)


def _build(config: Mapping) -> ClassImageDataset:
    """Builds a data set without its pipeline, whose classes may be without images: they are among what is looked for."""
    kind = find_component(config['type'], 'train_dataloader.dataset.type')
    if not (isinstance(kind, type) and issubclass(kind, ClassImageDataset)):
        raise ConfigError(f'a {config["type"]} cannot be checked, it is no ClassImageDataset')
    tolerant = type(kind.__name__, (kind,), dict(allows_empty_classes=True))
    with config_mistakes():
        return tolerant(**{key: value for key, value in config.items() if key not in ('type', 'pipeline')})
