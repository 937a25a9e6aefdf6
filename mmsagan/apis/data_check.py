"""Training data sets of configs, to be checked or packed."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from mmsagan.apis.zoo import resolve_config
from mmsagan.datasets import ClassImageDataset, ImageFolder
from mmsagan.engine.config import complete_loader, config_errors, find_component, load_config
from mmsagan.errors import ConfigError
from mmsagan.registry import DATASETS
from mmsagan.utils import register_all_modules


def build_training_dataset(
    source: str | Path, cfg_options: Mapping | None = None, **options
) -> tuple[ClassImageDataset, Config]:
    """Builds the training data set of a config without its transforms.

    Args:
        source: A config, by file or name; or a folder with one folder of images per class.
        cfg_options: Dotted config keys and their new values.
        **options: Arguments that override those of the data set.

    Returns:
        The data set, and the config, which is empty for a folder.

    Raises:
        ConfigError: There is no such config, or its training data set has no classes.
        DataError: The data set is missing or damaged as a whole.
    """
    register_all_modules()
    if Path(source).is_dir():
        return ImageFolder(data_root=str(source), **options), Config()
    cfg = load_config(resolve_config(source), dict(cfg_options or {}))
    config = complete_loader(cfg, 'train').get('dataset')
    if not config or 'type' not in config:
        raise ConfigError(f'{source} has no train_dataloader with a dataset')
    kind = find_component(config['type'], 'train_dataloader.dataset.type')
    if not (isinstance(kind, type) and issubclass(kind, ClassImageDataset)):
        raise ConfigError(f'{source}: {config["type"]} is not a ClassImageDataset')
    with config_errors():
        return DATASETS.build(dict(config, pipeline=[], **options)), cfg
