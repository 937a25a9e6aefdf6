"""MMSAGAN: Self-Attention GANs as an OpenMMLab project."""

from mmengine.config.utils import MODULE2PACKAGE

__version__ = '0.1.0'
__all__ = ['__version__']

# Lets MMEngine's hub and ``_base_ = 'mmsagan::...'`` find the configs of this package.
MODULE2PACKAGE.setdefault('mmsagan', 'mmsagan')
