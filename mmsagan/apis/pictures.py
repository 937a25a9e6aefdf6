"""Pictures in files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmsagan.errors import ConfigError
from mmsagan.utils.files import check_writable, write_output
from mmsagan.visualization.figures import encode_png


def check_picture(path: Path, suffixes: Sequence[str] = ('.png',)) -> None:
    """Finds out whether a picture can be written before it is made.

    Args:
        path: Of the picture.
        suffixes: What its name may end with.

    Raises:
        ConfigError: It cannot.
    """
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f'{path} must end with {" or ".join(suffixes)}')
    check_writable(path)


def write_picture(path: Path, picture: np.ndarray | bytes) -> None:
    """Writes a picture, (H, W, 3) uint8 as PNG or an encoded one as it is.

    Raises:
        ConfigError: It cannot be written.
    """
    write_output(path, picture if isinstance(picture, bytes) else encode_png(picture))
