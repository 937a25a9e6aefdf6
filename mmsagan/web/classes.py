"""What a visitor of the web demo picks classes by."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmsagan.apis.sampling import class_names

_WNID = re.compile(r'n\d{8}')
_NUM_IMAGENET = 1000


def class_choices(cfg: Config, num_classes: int) -> list[tuple[str, int]]:
    """What the class picker offers: a text that can be searched, and the class.

    The names are the data set's. Of ImageNet, whose folders are called by numbers, the text has the name in English, the number
    of the class and, if its files are there, the folder: ``goldfish (1, n01443537)``.

    Args:
        cfg: The experiment.
        num_classes: Number of classes.
    """
    names = class_names(cfg, num_classes)
    english = _imagenet_names() if _is_imagenet(cfg, names) else None
    if english is None:
        repeated = len(set(names)) < len(names)
        return [(f'{name} ({label})' if repeated else name, label) for label, name in enumerate(names)]
    details = [f'{label}, {name}' if _WNID.fullmatch(name) else str(label) for label, name in enumerate(names)]
    return [(f'{name} ({detail})', label) for label, (name, detail) in enumerate(zip(english, details))]


def _is_imagenet(cfg: Config, names: Sequence[str]) -> bool:
    if len(names) != _NUM_IMAGENET:
        return False
    if not all(name.isdecimal() for name in names):
        return (names[0], names[-1]) == ('n01440764', 'n15075141')
    # Its files are not here.
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    return any('imagenet' in str(dataset.get(key)).lower() for key in ('type', 'data_root'))


def _imagenet_names() -> list[str] | None:
    """The names of ImageNet's 1 000 classes, which Gradio brings along for its own demos; None if this version does not."""
    try:
        from gradio.media import get_file

        names = json.loads(Path(get_file('imagenet_labels.json')).read_text(encoding='utf-8'))
    except (ImportError, OSError, ValueError):
        return None
    is_list = isinstance(names, list) and len(names) == _NUM_IMAGENET and all(isinstance(name, str) for name in names)
    return names if is_list else None
