"""What a loaded file holds, sorted: tensors by name, plain values, and what is neither."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from mmsagan.errors import CheckpointError

# The networks of a model, as the keys of its tensors begin.
NETWORKS = ('generator', 'generator_ema', 'discriminator')

_COUNTERS = ('num_batches_tracked', 'iteration', 'steps')
_NOT_PLAIN = object()
# No project's notes are longer or deeper. A few bytes of a pickle can nest lists without end, or repeat one in another.
_MOST_VALUES, _DEEPEST = 100_000, 50


def tensors_of(content) -> dict[str, Tensor]:
    """The tensors of a loaded file: of its ``state_dict``, or of the file itself.

    Raises:
        CheckpointError: There are none.
    """
    state = content.get('state_dict', content) if isinstance(content, Mapping) else None
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())
    ):
        raise CheckpointError('it holds no networks: neither a state_dict nor tensors by name')
    return dict(state)


def meta_of(content) -> Mapping:
    """The notes that came with the tensors; empty if there are none."""
    meta = content.get('meta') if isinstance(content, Mapping) and 'state_dict' in content else None
    return meta if isinstance(meta, Mapping) else {}


def check_tensors(state: Mapping[str, Tensor]) -> None:
    """Refuses tensors that are no weights, before anything is computed from them.

    Raises:
        CheckpointError: Names a tensor that is sparse, quantized, of another type than floating point, or claims more numbers
            than the file holds.
    """
    for key, tensor in state.items():
        wanted = torch.is_floating_point(tensor) or key.endswith(_COUNTERS)
        if tensor.layout != torch.strided or tensor.is_quantized or not wanted:
            raise CheckpointError(f'{key[:200]} is no weight: it is {tensor.dtype}, {tensor.layout}')
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f'{key[:200]} claims the shape {tuple(tensor.shape)}, and the file does not hold so many numbers'
            )


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The first tensor with NaN or Inf."""
    return next((key for key, tensor in state.items() if not tensor.isfinite().all()), None)


def plain_entries(contents: Mapping[str, Mapping]) -> tuple[dict, list[str]]:
    """What files hold besides tensors.

    Args:
        contents: Of files, by a name for each.

    Returns:
        Numbers, strings, and lists and dicts of them, by their keys; and the names of all else.
    """
    kept, dropped = {}, []
    for name, content in contents.items():
        for key in content if 'state_dict' in content else ():
            value = _plain(content[key], itertools.count()) if key not in ('state_dict', 'optimizer') else _NOT_PLAIN
            if value is not _NOT_PLAIN:
                kept[str(key)] = value
            elif key != 'state_dict':
                dropped.append(f'{key} ({name})')
    return kept, dropped


def _plain(value, seen: Iterator[int], depth: int = 0):
    """A value as plain Python: numpy's scalars become numbers, and dicts lose what is not plain."""
    if next(seen) > _MOST_VALUES or depth > _DEEPEST:
        return _NOT_PLAIN
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        entries = {str(key): _plain(item, seen, depth + 1) for key, item in value.items()}
        return {key: item for key, item in entries.items() if item is not _NOT_PLAIN}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, seen, depth + 1) for item in value]
        return _NOT_PLAIN if any(item is _NOT_PLAIN for item in items) else items
    return value if value is None or type(value) in (bool, int, float, str) else _NOT_PLAIN


def iteration_of(value) -> int | None:
    """A count of iterations, if a value is one."""
    return value if type(value) is int and 0 <= value < 2**63 else None
