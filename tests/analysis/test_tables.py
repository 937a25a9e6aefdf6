from mmsagan.analysis.tables import text_table


def test_columns_are_aligned():
    assert text_table(['layer', 'type', 'FLOPs'], [['a', 'Conv2d', '1'], ['block.b', 'Linear', '1,000,000']], left=2) == (
        'layer    type        FLOPs\na        Conv2d          1\nblock.b  Linear  1,000,000'
    )
