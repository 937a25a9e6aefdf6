"""What a script or a notebook imports."""

from mmsagan.apis.test import evaluate_from_config
from mmsagan.apis.train import train_from_config

__all__ = ['evaluate_from_config', 'train_from_config']
