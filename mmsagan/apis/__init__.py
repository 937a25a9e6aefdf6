"""What a script or a notebook imports."""

from mmsagan.apis.attention import attention_maps
from mmsagan.apis.inference import init_model
from mmsagan.apis.sampling import interpolate, sample
from mmsagan.apis.test import evaluate_from_config
from mmsagan.apis.train import train_from_config

__all__ = ['attention_maps', 'evaluate_from_config', 'init_model', 'interpolate', 'sample', 'train_from_config']
