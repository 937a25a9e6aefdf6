"""Two-way tables of key rules: StudioGAN's tensor names beside ours, read in either direction."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mmsagan.errors import CheckpointError

# What a placeholder in a rule's names stands for, the same text on both sides.
_PLACEHOLDERS = {
    'block': r'\d{1,4}',
    'number': '[12]',
    'layer': 'weight|bias|weight_orig|weight_u|weight_v',  # of a convolution, linear layer or embedding, normalized or not
    'norm': 'weight|bias|running_mean|running_var|num_batches_tracked',  # of a batch norm
}


class Rule(NamedTuple):
    """A line of a table: the other project's name and ours, with placeholders such as ``{block}``.

    ``change`` converts the tensor, in either direction.
    """

    foreign: str
    ours: str
    change: Callable[[Tensor], Tensor] | None = None


class KeyTable(NamedTuple):
    """Translates the state dict of a network from another project's names to ours, and back."""

    rules: Sequence[Rule]  # the first one that matches is used
    block_offset: int = 0  # difference between the other project's ``{block}`` and ours

    def translate(self, state: Mapping[str, Tensor], target: str) -> dict[str, Tensor]:
        """Translates the other project's names to ours (``target='ours'``), or back (``'foreign'``).

        Raises a CheckpointError for an unknown name.
        """
        offset = self.block_offset if target == 'foreign' else -self.block_offset
        rules = []
        for foreign, ours, change in self.rules:
            source, template = (foreign, ours) if target == 'ours' else (ours, foreign)
            pattern = re.sub(r'\\{(\w+)\\}', lambda name: f'(?P<{name[1]}>{_PLACEHOLDERS[name[1]]})', re.escape(source))
            rules.append((re.compile(pattern), template, change))
        translated: dict[str, Tensor] = {}
        for key, tensor in state.items():
            for compiled, template, change in rules:
                match = compiled.fullmatch(key)
                values = match.groupdict() if match else {}
                if 'block' in values:
                    values['block'] = int(values['block']) + offset
                if match and values.get('block') != -1:
                    try:
                        translated[template.format(**values)] = change(tensor) if change else tensor
                    except RuntimeError as error:
                        raise CheckpointError(f'{key!r} has the impossible shape {tuple(tensor.shape)}') from error
                    break
            else:
                raise CheckpointError(f'the key {key[:200]!r} is not of a network that can be converted (SAGAN or SNGAN)')
        return translated
