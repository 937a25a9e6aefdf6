"""Checking features before a metric is computed from them."""

import numpy as np
import torch
from torch import Tensor

from mmsagan.errors import DataError


def as_float64(values) -> Tensor:
    """Numbers as a float64 tensor, from a tensor or from whatever numpy takes for an array."""
    if isinstance(values, Tensor):
        return values.double()
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def as_features(*sets) -> list[Tensor]:
    """Sets of features (N, D), arrays or tensors, as float64 tensors.

    Raises:
        DataError: They are not of the same length D, or hold NaN or Inf.
    """
    tensors = [as_float64(values) for values in sets]
    if any(values.ndim != 2 for values in tensors) or len({values.shape[-1] for values in tensors}) > 1:
        shapes = ' and '.join(str(tuple(values.shape)) for values in tensors)
        raise DataError(f'expected features (N, D) of the same length D, got shapes {shapes}')
    if not all(values.isfinite().all() for values in tensors):
        raise DataError('features hold NaN or Inf')
    return tensors
