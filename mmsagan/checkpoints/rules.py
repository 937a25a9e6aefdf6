"""Two-way tables of key rules: another project's tensor names beside ours, read in either direction."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mmsagan.errors import CheckpointError

# What a placeholder in a rule's names stands for, the same text on both sides.
_PLACEHOLDERS = {
    'block': r'\d{1,4}',
    'number': '[12]',
    'conv': 'conv_1|conv_2|shortcut',
    'projection': 'theta|phi|g|o',
    'embedding': 'weight_embedding|bias_embedding',
    'layer': 'weight|bias|weight_orig|weight_u|weight_v',  # of a convolution, linear layer or embedding, normalized or not
    'norm': 'weight|bias|running_mean|running_var|num_batches_tracked',  # of a batch norm
}


@dataclass(frozen=True)
class Change:
    """Conversion of a tensor's shape, exact to the bit in both directions.

    Args:
        ours: Converts the other project's tensor to ours.
        foreign: Converts it back.
    """

    ours: Callable[[Tensor], Tensor]
    foreign: Callable[[Tensor], Tensor]


# A linear layer on a one-hot vector is the transpose of an embedding.
TRANSPOSED = Change(lambda tensor: tensor.t().contiguous(), lambda tensor: tensor.t().contiguous())
# A scalar that the other project stores as a vector of length 1.
SCALAR = Change(lambda tensor: tensor.reshape(()), lambda tensor: tensor.reshape(1))


@dataclass(frozen=True)
class Rule:
    """A line of a table.

    Args:
        foreign: The other project's name, with placeholders such as ``{block}``.
        ours: Our name, with the same placeholders.
        change: Conversion of the tensor. Defaults to none.
    """

    foreign: str
    ours: str
    change: Change | None = None


@dataclass(frozen=True)
class KeyTable:
    """Translates the state dict of a network from another project's names to ours, and back.

    Args:
        rules: The lines. The first one that matches is used.
        dropped: Regular expressions of foreign keys that have no counterpart here.
        block_offset: Difference between the other project's ``{block}`` and ours.
    """

    rules: Sequence[Rule]
    dropped: Sequence[str] = ()
    block_offset: int = 0

    def to_ours(self, state: Mapping[str, Tensor], prefix: str = '') -> tuple[dict[str, Tensor], list[str]]:
        """Translates the other project's names to ours.

        Args:
            state: Tensors by name. A leading ``module.``, which wrappers for several GPUs add, is ignored.
            prefix: Prefix that was removed from the names, for error messages.

        Returns:
            The tensors under our names, and the keys that were dropped.

        Raises:
            CheckpointError: A key is unknown, or occurs twice.
        """
        dropped = [key for key in state if any(re.fullmatch(pattern, key) for pattern in self.dropped)]
        kept = {key: tensor for key, tensor in state.items() if key not in dropped}
        return self._translate(kept, 'ours', prefix), dropped

    def to_foreign(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translates our names to the other project's. Raises a CheckpointError for a key that is not in the table."""
        return self._translate(state, 'foreign')

    def foreign_name(self, key: str) -> str:
        """Returns the other project's name of one of our tensors."""
        return self._find(key, 'foreign')[0]

    def _translate(self, state: Mapping[str, Tensor], target: str, prefix: str = '') -> dict[str, Tensor]:
        translated: dict[str, Tensor] = {}
        for key, tensor in state.items():
            key = key.removeprefix('module.')
            name, change = self._find(key, target, prefix)
            if name in translated:
                raise CheckpointError(f'two keys of the file stand for {key!r}')
            try:
                translated[name] = getattr(change, target)(tensor) if change else tensor
            except RuntimeError as error:
                raise CheckpointError(f'{prefix + key!r} has the impossible shape {tuple(tensor.shape)}') from error
        return translated

    def _find(self, key: str, target: str, prefix: str = '') -> tuple[str, Change | None]:
        """Returns a key's name on the side ``target``, ``'ours'`` or ``'foreign'``, and the change of its tensor."""
        for rule in self.rules:
            source, name = (rule.foreign, rule.ours) if target == 'ours' else (rule.ours, rule.foreign)
            match = _compile(source).fullmatch(key)
            if match is None:
                continue
            values: dict[str, str | int] = match.groupdict()
            if 'block' in values:
                values['block'] = int(values['block']) + (self.block_offset if target == 'foreign' else -self.block_offset)
            if values.get('block') != -1:
                return name.format(**values), rule.change
        raise CheckpointError(f'the key {(prefix + key)[:200]!r} is not of a network that can be converted (SAGAN or SNGAN)')


@functools.cache
def _compile(template: str) -> re.Pattern:
    """Makes a regular expression of a name, with a group for each placeholder."""
    pattern = re.escape(template)
    for name, values in _PLACEHOLDERS.items():
        pattern = pattern.replace(rf'\{{{name}\}}', f'(?P<{name}>{values})')
    return re.compile(pattern)
