"""MMSAGAN: Self-Attention GANs as an OpenMMLab project."""

from mmsagan import _hub
from mmsagan.version import __version__

_hub.install()

__all__ = ['__version__']
