"""Tables of key rules: another project's tensor names and ours, side by side, read in both directions."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mmsagan.errors import CheckpointError

# What may stand in the place of a placeholder in a rule's names.
_PLACEHOLDERS = {
    'block': r'\d{1,4}',
    'number': '[12]',
    'conv': 'conv_1|conv_2|shortcut',
    'projection': 'theta|phi|g|o',
    'embedding': 'weight_embedding|bias_embedding',
    'layer': 'weight|bias|weight_orig|weight_u|weight_v',  # of a convolution, linear layer or embedding, normalized or not
    'norm': 'weight|bias|running_mean|running_var|num_batches_tracked',  # of a batch norm
}
_PLACEHOLDER = re.compile(r'\{(\w+?)(\+1)?\}')


@dataclass(frozen=True)
class Change:
    """What happens to a tensor besides its name, and how to take it back to the bit."""

    to_ours: Callable[[Tensor], Tensor]
    to_foreign: Callable[[Tensor], Tensor]


# A linear layer on a one-hot vector is the transpose of an embedding.
TRANSPOSED = Change(lambda tensor: tensor.t().contiguous(), lambda tensor: tensor.t().contiguous())
# A scalar that the other project keeps as a vector of length 1.
SCALAR = Change(lambda tensor: tensor.reshape(()), lambda tensor: tensor.reshape(1))


@dataclass(frozen=True)
class Rule:
    """One line of a table: the other project's name, ours, and what happens to the tensor.

    Names hold placeholders, such as ``{block}``, which stand for the same text on both sides; ``{block+1}`` stands for a number
    that is one higher than the other side's.
    """

    foreign: str
    ours: str
    change: Change | None = None


class KeyTable:
    """Translates a network's tensors from another project's names to ours and back.

    Args:
        rules: The lines; no key may fit two of them.
        dropped: Patterns of foreign keys that are known to be of no use here.
    """

    def __init__(self, rules: Sequence[Rule], dropped: Sequence[str] = ()):
        self._from_foreign = [(_compile(rule.foreign), rule) for rule in rules]
        self._from_ours = [(_compile(rule.ours), rule) for rule in rules]
        self._dropped = [re.compile(pattern) for pattern in dropped]

    def to_ours(self, state: Mapping[str, Tensor], prefix: str = '') -> tuple[dict[str, Tensor], list[str]]:
        """Translates to our names.

        Args:
            state: The other project's tensors by name.
            prefix: What was taken off the names, for messages.

        Returns:
            Our tensors, and the keys that were dropped.

        Raises:
            CheckpointError: A key is neither in the table nor known to be of no use.
        """
        ours: dict[str, Tensor] = {}
        dropped = []
        for key, tensor in state.items():
            if any(pattern.fullmatch(key) for pattern in self._dropped):
                dropped.append(key)
                continue
            rule, values = _find(self._from_foreign, key, prefix)
            if rule.change:
                tensor = _changed(rule.change.to_ours, tensor, prefix + key)
            _put(ours, _render(rule.ours, values), tensor, prefix + key)
        return ours, dropped

    def to_foreign(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translates from our names. Raises a CheckpointError for a key that is not in the table."""
        foreign: dict[str, Tensor] = {}
        for key, tensor in state.items():
            rule, values = _find(self._from_ours, key)
            if rule.change:
                tensor = _changed(rule.change.to_foreign, tensor, key)
            _put(foreign, _render(rule.foreign, values), tensor, key)
        return foreign

    def foreign_name(self, key: str) -> str:
        """The other project's name of a tensor of ours."""
        rule, values = _find(self._from_ours, key)
        return _render(rule.foreign, values)


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under names without a prefix, which need not be there. Raises a CheckpointError if two names become one."""
    plain: dict[str, Tensor] = {}
    for key, tensor in state.items():
        _put(plain, key.removeprefix(prefix), tensor, key)
    return plain


def _compile(template: str) -> re.Pattern:
    """A template as a regular expression with a group for each placeholder; that of ``{block+1}`` is named ``block_plus_1``."""
    parts, end = [], 0
    for match in _PLACEHOLDER.finditer(template):
        name, higher = match.groups()
        parts += [re.escape(template[end : match.start()]), f'(?P<{name}{"_plus_1" if higher else ""}>{_PLACEHOLDERS[name]})']
        end = match.end()
    return re.compile(''.join([*parts, re.escape(template[end:])]))


def _match(pattern: re.Pattern, key: str) -> dict[str, str] | None:
    match = pattern.fullmatch(key)
    if not match:
        return None
    values = match.groupdict()
    if 'block_plus_1' in values:
        values['block'] = str(int(values.pop('block_plus_1')) - 1)
    return None if values.get('block') == '-1' else values


def _find(table: list[tuple[re.Pattern, Rule]], key: str, prefix: str = '') -> tuple[Rule, dict[str, str]]:
    for pattern, rule in table:
        values = _match(pattern, key)
        if values is not None:
            return rule, values
    raise CheckpointError(f'the key {(prefix + key)[:200]!r} is not of a network that can be converted (SAGAN or SNGAN)')


def _render(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: str(int(values[match[1]]) + 1) if match[2] else values[match[1]], template)


def _changed(change: Callable[[Tensor], Tensor], tensor: Tensor, key: str) -> Tensor:
    try:
        return change(tensor)
    except RuntimeError as error:
        raise CheckpointError(f'{key!r} has the shape {tuple(tensor.shape)}, which it cannot have in such a network') from error


def _put(state: dict[str, Tensor], key: str, tensor: Tensor, source: str) -> None:
    if key in state:
        raise CheckpointError(f'two keys of the file stand for {key!r}, one of them is {source!r}')
    state[key] = tensor
