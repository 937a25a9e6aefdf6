import pytest
import torch

from mmsagan.checkpoints.rules import SCALAR, TRANSPOSED, KeyTable, Rule
from mmsagan.errors import CheckpointError

TABLE = KeyTable(
    (
        Rule('head.{layer}', 'first.{layer}'),
        Rule('blocks.{block}.conv.{layer}', 'conv_blocks.{block}.{layer}', TRANSPOSED),
        Rule('gain', 'gamma', SCALAR),
    ),
    dropped=('steps', r'old\..*'),
    block_offset=1,
)


def test_both_directions():
    foreign = {
        'head.weight': torch.randn(2),
        'blocks.1.conv.weight': torch.randn(2, 3),
        'blocks.12.conv.weight_orig': torch.randn(4, 5),
        'gain': torch.randn(1),
    }
    ours, dropped = TABLE.to_ours(foreign)
    assert not dropped
    assert {key: tuple(tensor.shape) for key, tensor in ours.items()} == {
        'first.weight': (2,),
        'conv_blocks.0.weight': (3, 2),
        'conv_blocks.11.weight_orig': (5, 4),
        'gamma': (),
    }
    torch.testing.assert_close(ours['conv_blocks.0.weight'], foreign['blocks.1.conv.weight'].T)
    back = TABLE.to_foreign(ours)
    assert list(back) == list(foreign)
    assert all(torch.equal(back[key], foreign[key]) for key in foreign)


def test_known_keys_are_dropped_and_named():
    ours, dropped = TABLE.to_ours({'head.bias': torch.ones(1), 'steps': torch.ones(1), 'old.x.y': torch.ones(1)})
    assert list(ours) == ['first.bias'] and dropped == ['steps', 'old.x.y']


@pytest.mark.parametrize(
    'key', ['tail.weight', 'head.scale', 'blocks.0.conv.weight', 'xhead.weight', 'head.weight2', 'headxweight']
)
def test_any_other_key_is_an_error_that_names_it(key):
    with pytest.raises(CheckpointError, match=key):
        TABLE.to_ours({key: torch.ones(1, 1)})


def test_two_keys_for_one():
    table = KeyTable((Rule('a.{layer}', 'x.{layer}'), Rule('b.{layer}', 'x.{layer}')))
    with pytest.raises(CheckpointError, match='two keys'):
        table.to_ours({'a.bias': torch.ones(1), 'b.bias': torch.ones(1)})
