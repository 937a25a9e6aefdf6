"""What the classes of a model are called."""

from collections.abc import Sequence

from mmengine.config import Config

from mmsagan.apis.running import config_mistakes
from mmsagan.engine.config import LOADERS
from mmsagan.errors import MMSAGANError
from mmsagan.registry import DATASETS


def class_names(cfg: Config, num_classes: int) -> list[str]:
    """Names of the classes, from the config's data set; their numbers where it does not know them or its files are not there.

    Args:
        cfg: The experiment.
        num_classes: Number of classes.
    """
    loaders = [cfg.get(loader) for loader in LOADERS]
    datasets = [loader.get('dataset') for loader in loaders if isinstance(loader, dict)]
    dataset = next((dataset for dataset in datasets if isinstance(dataset, dict) and 'type' in dataset), None)
    names = _names_of(dataset) if dataset is not None else None
    return [str(name) for name in (names if names is not None and len(names) == num_classes else range(num_classes))]


def _names_of(dataset: dict) -> Sequence | None:
    try:
        with config_mistakes():
            # Some data sets know their classes without their files.
            kind = dataset['type']
            names = getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, 'classes', None)
            if isinstance(names, Sequence):
                return names
            return DATASETS.build(dataset).metainfo.get('classes')
    except MMSAGANError:
        return None
