"""What a script or a notebook imports."""

from mmsagan.apis.train import train_from_config

__all__ = ['train_from_config']
