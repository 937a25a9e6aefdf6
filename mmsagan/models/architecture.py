"""What the generator and the discriminator share: the table of widths and the placing of attention."""

from collections.abc import Mapping, Sequence

from torch import nn

from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS


def look_up_scale(
    table: Mapping[int, Sequence], scale: int, override: Mapping | Sequence | None, key: str, argument: str, meaning: str
) -> list:
    """The entry of a per-resolution table, or what the user gives in its place.

    Args:
        table: Resolution -> list.
        scale: The resolution, in pixels.
        override: The user's list, or a mapping like ``table``; None takes the table.
        key: The argument that holds the resolution, for the message.
        argument: The argument that ``override`` came from, for the message.
        meaning: What that argument's list says of each block, for the message.

    Raises:
        ConfigError: The resolution is in neither.
    """
    if override is not None and not isinstance(override, Mapping):
        return list(override)
    table = override or table
    if scale not in table:
        raise ConfigError(
            f'{key}={scale} is not supported: known sizes are {", ".join(map(str, table))}; '
            f'for another one give {meaning} for each block in {argument}=[...]'
        )
    return list(table[scale])


def chain_with_attention(
    blocks: Sequence[tuple[nn.Module, int]],
    attention_cfg: dict | None,
    after_nth_block: int | Sequence[int],
    **defaults,
) -> tuple[nn.ModuleList, set[int]]:
    """Strings blocks together, an attention block after the chosen ones.

    Args:
        blocks: Pairs of a block and the channels it puts out.
        attention_cfg: Config of the attention block; it gets ``in_channels`` and ``defaults``. None: no attention.
        after_nth_block: Number or numbers, counted from 1, of the blocks that attention follows; 0 or less: none.
        **defaults: Arguments for the attention block that its config may override.

    Returns:
        The chain, and which of its places hold attention.

    Raises:
        ConfigError: A number is higher than there are blocks.
    """
    numbers = [after_nth_block] if isinstance(after_nth_block, int) else list(after_nth_block)
    numbers = [number for number in numbers if number > 0] if attention_cfg else []
    if any(number > len(blocks) for number in numbers):
        raise ConfigError(
            f"attention_after_nth_block={after_nth_block}, but the network's blocks are numbered 1 to {len(blocks)}"
        )
    chain, attention_places = nn.ModuleList(), set()
    for number, (block, channels) in enumerate(blocks, 1):
        chain.append(block)
        if number in numbers:
            attention_places.add(len(chain))
            chain.append(MODELS.build(dict(attention_cfg or {}), default_args=dict(in_channels=channels, **defaults)))
    return chain, attention_places
