"""Checking features before a metric is computed from them."""

import torch
from torch import Tensor

from mmsagan.errors import DataError


def as_features(*sets) -> list[Tensor]:
    """Sets of features (N, D), arrays or tensors, as float64 tensors.

    Raises:
        DataError: They are not of the same length D, or hold NaN or Inf.
    """
    tensors = [torch.as_tensor(values, dtype=torch.float64) for values in sets]
    if any(values.ndim != 2 for values in tensors) or len({values.shape[-1] for values in tensors}) > 1:
        shapes = ' and '.join(str(tuple(values.shape)) for values in tensors)
        raise DataError(f'expected features (N, D) of the same length D, got shapes {shapes}')
    if not all(values.isfinite().all() for values in tensors):
        raise DataError('features hold NaN or Inf')
    return tensors
