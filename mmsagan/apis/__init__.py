"""What a script or a notebook imports."""

from mmsagan.apis.attention import attention_maps
from mmsagan.apis.experiment import evaluate_from_config, train_from_config
from mmsagan.apis.inference import init_model
from mmsagan.apis.sampling import interpolate, sample

__all__ = ['attention_maps', 'evaluate_from_config', 'init_model', 'interpolate', 'sample', 'train_from_config']
