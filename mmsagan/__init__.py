"""MMSAGAN: Self-Attention GANs as an OpenMMLab project."""

from mmsagan.version import __version__

__all__ = ['__version__']
