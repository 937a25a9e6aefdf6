"""Tables as text."""

from collections.abc import Sequence


def text_table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligned columns, two spaces apart.

    Args:
        titles: The columns' titles.
        rows: As many cells a row.
        left: How many columns, from the left, are texts, aligned to the left; numbers are aligned to the right.

    Example:
        >>> print(text_table(['layer', 'GFLOPs'], [['conv_1', '12.5'], ['to_rgb', '1.0']]))
        layer   GFLOPs
        conv_1    12.5
        to_rgb     1.0
    """
    lines = [titles, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    aligns = ['<' if column < left else '>' for column in range(len(titles))]
    return '\n'.join(
        '  '.join(f'{cell:{align}{width}}' for cell, align, width in zip(line, aligns, widths)).rstrip() for line in lines
    )
